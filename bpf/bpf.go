// Package bpf holds the kernel side: the programs, compiled and embedded, and
// what is needed to load them. It knows the records' layout and nothing of
// their meaning.
package bpf

//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type header -type term -type caller -type target -type scheduler -type kernel sampler sampler.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type code_record code code.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type message -type heap_term -type distribution -type traffic_key -type traffic distribution distribution.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type connection_record -type connection_settings -type connection_totals -type sock_head -type learned_sock -type endpoints -type listener_key connections connections.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type speech -type head mqtt mqtt.bpf.c
//go:generate go tool bpf2go -target amd64,arm64 -go-package bpf -cflags "-Iinclude -O2 -Wall -Werror -mcpu=v2" -type kernel_names names names.bpf.c
