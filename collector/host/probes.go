package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/native"
	"github.com/beamprof/beamprof/collector/sockets"
)

const privilegesRemedy = "see the capabilities above; in a container, its seccomp profile must allow bpf and perf_event_open"

// programs checks what sampling does first: load the programs, open a clock,
// attach the one to the other. Nothing is sampled: there is no target.
func programs() []Check {
	load := Check{Name: "BPF programs", Detail: "load"}
	clock := Check{Name: "perf events", Detail: "cpu-clock opens"}
	attach := Check{Name: "BPF on perf events", Detail: "attaches"}

	loaded, err := bpf.Load()
	if err != nil {
		load = failed(load.Name, err, "the kernel needs CONFIG_BPF_SYSCALL, CONFIG_BPF_EVENTS and CONFIG_PERF_EVENTS")
	} else {
		defer loaded.Close()
	}
	fd, err := openClock()
	if err != nil {
		clock = failed(clock.Name, err, "the kernel needs CONFIG_PERF_EVENTS")
	} else {
		defer unix.Close(fd)
	}
	switch {
	case loaded == nil || fd < 0:
		attach.Status, attach.Detail, attach.Remedy = max(load.Status, clock.Status), "not tried", "see above"
	default:
		if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, loaded.Sample.FD()); err != nil {
			attach = failed(attach.Name, err, "the kernel needs CONFIG_BPF_EVENTS")
		}
	}
	return []Check{load, clock, attach}
}

// openClock opens, and does not start, a sampling clock on the first CPU that is online.
func openClock() (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   unix.PERF_ATTR_SIZE_VER1,
		Sample: 1e9,
		Bits:   unix.PerfBitDisabled,
	}
	var err error
	for cpu := range 64 {
		var fd int
		if fd, err = unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC); err == nil {
			return fd, nil
		}
		if err != unix.ENODEV { // the CPU is offline
			break
		}
	}
	return -1, fmt.Errorf("perf_event_open: %w", err)
}

// failed tells a lack of privileges from all else.
func failed(name string, err error, remedy string) Check {
	if errors.Is(err, os.ErrPermission) {
		return Check{Name: name, Status: Denied, Detail: err.Error(), Remedy: privilegesRemedy}
	}
	return Check{Name: name, Status: Failed, Detail: err.Error(), Remedy: remedy}
}

// connections checks the probes of connections: tracepoints, and the filter of
// what clients say on a packet socket. No packet passes it.
func connections() Check {
	const name, remedy = "connections", "the kernel needs CONFIG_BPF_EVENTS and CONFIG_PACKET; record --connections=off does without"
	if err := tryConnections(); err != nil {
		return failed(name, err, remedy)
	}
	return Check{Name: name, Detail: "tracepoints and a packet filter attach"}
}

func tryConnections() error {
	programs, err := bpf.LoadConnections()
	if err != nil {
		return err
	}
	defer programs.Close()
	for tracepoint, program := range map[string]*ebpf.Program{"inet_sock_set_state": programs.FromOutside, "tcp_receive_reset": programs.Reset} {
		attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: program})
		if err != nil {
			return fmt.Errorf("attach to the tracepoint %s: %w", tracepoint, err)
		}
		attached.Close()
	}
	filter, err := bpf.LoadMQTT(programs)
	if err != nil {
		return err
	}
	defer filter.Close()
	socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a packet socket: %w", err)
	}
	defer unix.Close(socket)
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, filter.Filter.FD()); err != nil {
		return fmt.Errorf("attach the filter of what clients say: %w", err)
	}
	return nil
}

// listing checks whether the kernel tells of sockets.
func listing() Check {
	const name, remedy = "sockets", "record does without, and counts neither connections nor bytes to other nodes"
	kernel, err := sockets.Open(os.Getpid())
	if err == nil {
		_, err = kernel.Listening()
		err = errors.Join(err, kernel.Close())
	}
	if err != nil {
		return failed(name, err, remedy)
	}
	return Check{Name: name, Detail: "the kernel lists them"}
}

// uprobes tell of code that is loaded at once; without them the list of code
// is looked at before every batch of samples.
func uprobes(sys string) Check {
	c := Check{Name: "uprobes", Detail: "available"}
	if _, err := os.Stat(filepath.Join(sys, "bus/event_source/devices/uprobe/type")); err != nil {
		c.Status, c.Detail = Note, "not available: the VM's list of code is looked at ten times a second instead"
		c.Remedy = "a kernel with CONFIG_UPROBE_EVENTS and a mounted /sys have them"
	}
	return c
}

func kernelSymbols() Check {
	c := Check{Name: "kernel symbols", Detail: "readable"}
	if namer, err := bpf.LoadKernelNamer(); err == nil {
		namer.Close()
		return c
	}
	_, err := native.LoadKernelSymbols()
	switch {
	case errors.Is(err, native.ErrRestricted):
		c.Status, c.Detail = Denied, "hidden: kernel functions would have no names"
		c.Remedy = "run with CAP_SYSLOG, or set sysctl kernel.kptr_restrict=0"
	case err != nil:
		c = failed(c.Name, err, "mount /proc, in a kernel with CONFIG_KALLSYMS")
	}
	return c
}

// tracefs is not needed for sampling CPU time.
func tracefs() Check {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		var stat unix.Statfs_t
		if err := unix.Statfs(dir, &stat); err == nil && stat.Type == unix.TRACEFS_MAGIC {
			return Check{Name: "tracefs", Detail: dir + ", not needed to record CPU time"}
		}
	}
	return Check{Name: "tracefs", Status: Note, Detail: "not mounted, not needed to record CPU time"}
}
