// Package sampletest makes samples of an invented VM for tests: a small
// message broker with a store, a database behind it and client sessions,
// native threads, garbage collection and busy waiting. Equal calls give equal
// samples.
package sampletest

import (
	"fmt"
	"time"

	"github.com/beamprof/beamprof/collector"
)

// Start is when the invented recording began.
var Start = time.Date(2026, time.March, 4, 3, 12, 44, 0, time.UTC)

// Executable is the path of the invented VM's beam.smp.
const Executable = "/usr/lib/erlang/erts-13.1.5/bin/beam.smp"

// Mappings of the invented VM.
var (
	beam   = &collector.Mapping{Start: 0x55550000, Limit: 0x55990000, Offset: 0x1000, File: Executable, BuildID: "8f1c25c9d0b1e3a7"}
	libc   = &collector.Mapping{Start: 0x7f0000000000, Limit: 0x7f0000150000, Offset: 0x26000, File: "/usr/lib/x86_64-linux-gnu/libc.so.6", BuildID: "115585c6aa7bd10c"}
	store  = &collector.Mapping{Start: 0x7f0010000000, Limit: 0x7f0010150000, File: "/opt/broker/lib/eleveldb/priv/eleveldb.so"}
	jit    = &collector.Mapping{Start: 0x7f1000000000, Limit: 0x7f1004000000, File: "[beam jit]"}
	kernel = &collector.Mapping{Start: 0xffffffff81000000, Limit: 0xffffffffff000000, File: "[kernel.kallsyms]"}
)

// world interns frames.
type world map[string]*collector.Frame

func (w world) frame(kind collector.FrameKind, m *collector.Mapping, name, file string, line int) *collector.Frame {
	key := fmt.Sprint(kind, name, line)
	f, ok := w[key]
	if !ok {
		f = &collector.Frame{Kind: kind, Mapping: m, Function: name, File: file, Line: line, Resolved: true}
		if m != nil {
			f.Address = m.Start + uint64(0x40*(len(w)+1))
		}
		w[key] = f
	}
	return f
}

func (w world) erlang(name, file string, line int) *collector.Frame {
	return w.frame(collector.FrameErlang, jit, name, file, line)
}

func (w world) native(m *collector.Mapping, name string) *collector.Frame {
	return w.frame(collector.FrameNative, m, name, "", 0)
}

func (w world) kernel(name string) *collector.Frame {
	return w.frame(collector.FrameKernel, kernel, name, "", 0)
}

// Broker returns the samples of the invented VM, 1000 in all.
func Broker() []*collector.Sample {
	w := world{}
	scheduler := []*collector.Thread{
		{TID: 101, Kind: collector.ThreadScheduler, Number: 1, Name: "1_scheduler"},
		{TID: 102, Kind: collector.ThreadScheduler, Number: 2, Name: "2_scheduler"},
	}
	aux := &collector.Thread{TID: 103, Kind: collector.ThreadAux, Name: "aux"}
	poller := &collector.Thread{TID: 104, Kind: collector.ThreadPoller, Name: "0_poller"}
	dirty := &collector.Thread{TID: 105, Kind: collector.ThreadDirtyIO, Number: 3, Name: "3_dirty_io_sche"}
	level := &collector.Thread{TID: 106, Name: "Eleveldb"}

	gen := []*collector.Frame{
		w.erlang("gen_server:try_handle_call/4", "gen_server.erl", 1149),
		w.erlang("gen_server:handle_msg/6", "gen_server.erl", 1178),
		w.erlang("proc_lib:init_p_do_apply/3", "proc_lib.erl", 240),
	}
	under := func(root []*collector.Frame, leaf ...*collector.Frame) []*collector.Frame {
		return append(leaf, root...)
	}
	system := []*collector.Frame{w.kernel("entry_SYSCALL_64_after_hwframe")}
	thread := []*collector.Frame{w.native(libc, "start_thread"), w.native(libc, "clone")}
	loop := under(thread, w.native(beam, "sched_thread_func"))

	var samples []*collector.Sample
	add := func(n int, s collector.Sample) {
		for range n {
			s := s
			s.Time = uint64(len(samples)+1) * 10_101_010
			samples = append(samples, &s)
		}
	}
	database := make([]*collector.Process, 3)
	for i := range database {
		name := fmt.Sprintf("broker_db_meta%d", i+1)
		database[i] = &collector.Process{PID: fmt.Sprintf("<0.%d.0>", 400+i), Name: name, Kind: "broker_db_metaN", RegisteredName: name, InitialCall: "broker_db:init/1"}
	}
	get := w.erlang("eleveldb:get/3", "eleveldb.erl", 310)
	read := under(gen, get, w.erlang("broker_db:handle_call/3", "broker_db.erl", 71))
	for i, n := range []int{180, 60, 30} {
		add(n, collector.Sample{Thread: scheduler[i%2], State: collector.StateNIF, Process: database[i], Request: "read", OnBehalfOf: "broker_exchange_fsm:init/1",
			Stack: under(read, w.native(store, "eleveldb::async_get"), w.native(beam, "beam.smp+0x1234"))})
	}
	add(40, collector.Sample{Thread: scheduler[0], State: collector.StateGC, Process: database[0], Request: "read", OnBehalfOf: "broker_session:init/4",
		Stack: under(read, w.native(beam, "erts_garbage_collect"), w.erlang("global::garbage_collect", "", 0))})

	table := &collector.Process{PID: "<0.77.0>", Name: "broker_store", Kind: "broker_store", RegisteredName: "broker_store", InitialCall: "broker_store:init/1"}
	fold := under(gen, w.erlang("lists:foldl/3", "lists.erl", 1355), w.erlang("broker_store:handle_call/3", "broker_store.erl", 204))
	add(120, collector.Sample{Thread: scheduler[1], State: collector.StateEmulator, Process: table, Request: "batch", OnBehalfOf: "broker_batcher", Stack: fold})
	add(70, collector.Sample{Thread: scheduler[1], State: collector.StateBIF, Process: table, Request: "batch", OnBehalfOf: "broker_batcher",
		Stack: under(fold, w.native(beam, "db_get_hash"), w.native(beam, "ets_lookup_2"), w.erlang("ets:lookup/2", "", 0))})

	send := under(nil, w.erlang("prim_inet:send/4", "prim_inet.erl", 625), w.erlang("gen_tcp:send/2", "gen_tcp.erl", 350),
		w.erlang("broker_session:loop/1", "broker_session.erl", 88))
	for i := range 25 {
		session := &collector.Process{PID: fmt.Sprintf("<0.%d.0>", 5000+i), Name: "broker_session:init/4", Kind: "broker_session:init/4", InitialCall: "broker_session:init/4"}
		add(6, collector.Sample{Thread: scheduler[i%2], State: collector.StatePort, Process: session,
			Stack: under(send, under(system, w.kernel("tcp_sendmsg"), w.kernel("__x64_sys_writev"))...)})
		if i < 5 {
			add(2, collector.Sample{Thread: scheduler[i%2], State: collector.StateEmulator, Process: session, Truncated: true,
				Stack: under(send, w.erlang("broker_parser:parse/2", "broker_parser.erl", 40), w.frame(collector.FrameMarker, nil, "[9000 frames of recursion]", "", 0))})
		}
	}
	file := &collector.Process{PID: "<0.91.0>", Name: "broker_log", Kind: "broker_log", RegisteredName: "broker_log", InitialCall: "broker_log:init/1"}
	add(30, collector.Sample{Thread: dirty, State: collector.StateNIF, Process: file, Request: "log",
		Stack: under(gen, w.kernel("vfs_write"), w.native(libc, "writev"), w.native(beam, "efile_writev"), w.erlang("prim_file:write/2", "prim_file.erl", 190))})

	add(110, collector.Sample{Thread: scheduler[1], State: collector.StateBusyWait, Stack: under(loop, w.native(beam, "erts_schedule"))})
	add(60, collector.Sample{Thread: scheduler[0], State: collector.StateCheckIO, Stack: under(loop, w.kernel("do_epoll_wait"), w.native(libc, "epoll_wait"), w.native(beam, "erts_check_io"))})
	add(40, collector.Sample{Thread: scheduler[0], State: collector.StateScheduling, Stack: under(loop, w.native(beam, "beam.smp+0x9e77"))})
	add(15, collector.Sample{Thread: aux, State: collector.StateAux, Stack: under(thread, w.native(beam, "aux_thread"))})
	add(5, collector.Sample{Thread: poller, State: collector.StateCheckIO, Stack: under(thread, w.kernel("do_epoll_wait"), w.native(libc, "epoll_wait"))})
	add(78, collector.Sample{Thread: level, State: collector.StateNative, Stack: under(thread, w.native(store, "leveldb::BlockReader"), w.native(store, "eleveldb.so+0x4b10"))})
	add(2, collector.Sample{Thread: level, State: collector.StateNative, Partial: true, Stack: under(nil, w.native(libc, "memcmp"))})
	return samples
}
