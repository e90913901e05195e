package beam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// The kernel's names of a bare VM's threads say what the VM's tables must.
func TestThreadsOfVM(t *testing.T) {
	for name, flags := range map[string][]string{
		"default":         nil,
		"one scheduler":   {"+S", "1", "+SDcpu", "1", "+SDio", "1"},
		"many schedulers": {"+S", "9:3", "+SDio", "20", "+A", "12", "+IOt", "3"},
	} {
		t.Run(name, func(t *testing.T) {
			vm := testsupport.StartVM(t, testsupport.Options{Flags: flags})
			target := attachTo(t, vm)
			compareThreads(t, target)
			for _, n := range []struct {
				item string
				kind collector.ThreadKind
			}{
				{"schedulers", collector.ThreadScheduler},
				{"dirty_cpu_schedulers", collector.ThreadDirtyCPU},
				{"dirty_io_schedulers", collector.ThreadDirtyIO},
			} {
				want := int(vm.EvalInt(t, "erlang:system_info("+n.item+")"))
				got := 0
				for _, s := range target.Schedulers {
					if s.Kind == n.kind {
						got++
					}
				}
				if got != want {
					t.Errorf("%d %s, the VM says %d", got, n.item, want)
				}
			}
		})
	}
}

// compareThreads compares the role of each thread with the name the VM gave it.
func compareThreads(t *testing.T, target *Target) {
	t.Helper()
	list, err := osThreads(target.PID)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		kind, number := target.ThreadKind(o.tid, o.comm)
		want := fmt.Sprintf("%s %d", o.comm, 0)
		switch kind {
		case collector.ThreadScheduler:
			want = fmt.Sprintf("%d_scheduler", number)
		case collector.ThreadDirtyCPU:
			want = fmt.Sprintf("%d_dirty_cpu_scheduler", number)
		case collector.ThreadDirtyIO:
			want = fmt.Sprintf("%d_dirty_io_scheduler", number)
		case collector.ThreadAux:
			want = fmt.Sprintf("%d_aux", number)
		case collector.ThreadPoller:
			want = fmt.Sprintf("%d_poller", number)
		case collector.ThreadAsync:
			want = fmt.Sprintf("async_%d", number)
		case collector.ThreadSignal:
			if o.tid == target.PID {
				continue
			}
			want = "sys_sig_dispatcher"
			if strings.HasPrefix(o.comm, "sys_msg") {
				want = "sys_msg_dispatcher"
			}
		}
		if want[:min(15, len(want))] != o.comm {
			t.Errorf("thread %d, %s, is %v %d", o.tid, o.comm, kind, number)
		}
	}
}

// A library's thread inherits the name of the scheduler that started it.
func TestNamesThatLie(t *testing.T) {
	target := &Target{Info: Info{PID: 100}, threads: map[int]thread{103: {collector.ThreadScheduler, 1}}}
	target.nameThreads([]osThread{
		{tid: 100, comm: "beam.smp", start: 1},
		{tid: 103, comm: "1_scheduler", start: 2},
		{tid: 90, comm: "async_1", start: 9}, // younger than the VM's, though thread ids have wrapped
		{tid: 101, comm: "async_1", start: 1},
		{tid: 104, comm: "1_aux", start: 2},
		{tid: 105, comm: "1_scheduler", start: 3},
		{tid: 106, comm: "Eleveldb", start: 3},
	})
	for _, test := range []struct {
		tid  int
		comm string
		want thread
	}{
		{100, "beam.smp", thread{collector.ThreadSignal, 0}},
		{101, "async_1", thread{collector.ThreadAsync, 1}},
		{90, "async_1", thread{}},
		{103, "1_scheduler", thread{collector.ThreadScheduler, 1}},
		{103, "renamed", thread{collector.ThreadScheduler, 1}},
		{104, "1_aux", thread{collector.ThreadAux, 1}},
		{104, "Eleveldb", thread{}}, // the thread has ended, another has its id
		{105, "1_scheduler", thread{}},
		{106, "Eleveldb", thread{}},
		{107, "2_aux", thread{}}, // started after attach
	} {
		kind, number := target.ThreadKind(test.tid, test.comm)
		if got := (thread{kind, number}); got != test.want {
			t.Errorf("ThreadKind(%d, %s) = %v, not %v", test.tid, test.comm, got, test.want)
		}
	}
}

func TestThreadNames(t *testing.T) {
	for comm, want := range map[string]thread{
		"1_aux":           {collector.ThreadAux, 1},
		"12_aux":          {collector.ThreadAux, 12},
		"erts_aux_2":      {collector.ThreadAux, 2},
		"0_poller":        {collector.ThreadPoller, 0},
		"erts_poll_3":     {collector.ThreadPoller, 3},
		"async_64":        {collector.ThreadAsync, 64},
		"erts_async_1":    {collector.ThreadAsync, 1},
		"sys_sig_dispatc": {collector.ThreadSignal, 0},
		"sys_msg_dispatc": {collector.ThreadSignal, 0},
		"erts_ssig_disp":  {collector.ThreadSignal, 0},
		"erts_smsg_disp":  {collector.ThreadSignal, 0},
		"runq_supervisor": {collector.ThreadAux, 0},
		"1_scheduler":     {},
		"erts_sched_1":    {},
		"10_dirty_io_sch": {},
		"aux":             {},
		"x1_aux":          {},
		"1_aux_":          {},
		"":                {},
	} {
		if got := roleOf(comm); got != want {
			t.Errorf("%s is %v, not %v", comm, got, want)
		}
	}
}

func TestMatchThreads(t *testing.T) {
	list := []osThread{{tid: 1001, inner: 1}, {tid: 1002, inner: 2}, {tid: 1003, inner: 3}, {tid: 1004, inner: 4}}
	structure := func(fields map[int]uint32) []byte {
		b := make([]byte, structureSize)
		for i := range b {
			b[i] = byte(rand.Uint32() | 0x80)
		}
		for at, value := range fields {
			binary.NativeEndian.PutUint32(b[at:], value)
		}
		return b
	}
	for name, test := range map[string]struct {
		structures [][]byte
		want       []int
	}{
		"glibc":          {[][]byte{structure(map[int]uint32{0x2d0: 3}), structure(map[int]uint32{0x2d0: 2})}, []int{1003, 1002}},
		"musl, short":    {[][]byte{structure(map[int]uint32{0x38: 4})[:0x100], structure(map[int]uint32{0x38: 2})[:0x80]}, []int{1004, 1002}},
		"twice the same": {[][]byte{structure(map[int]uint32{0x40: 3, 0x2d0: 3}), structure(map[int]uint32{0x40: 2, 0x2d0: 2})}, []int{1003, 1002}},
		"not distinct":   {[][]byte{structure(map[int]uint32{0x40: 3, 0x2d0: 1}), structure(map[int]uint32{0x40: 3, 0x2d0: 2})}, []int{1001, 1002}},
		"contradicting":  {[][]byte{structure(map[int]uint32{0x40: 3, 0x2d0: 1}), structure(map[int]uint32{0x40: 4, 0x2d0: 2})}, nil},
		"host's numbers": {[][]byte{structure(map[int]uint32{0x2d0: 1003}), structure(map[int]uint32{0x2d0: 1002})}, nil},
		"nowhere":        {[][]byte{structure(nil), structure(nil)}, nil},
		"empty":          {[][]byte{nil, nil}, nil},
	} {
		got, err := matchThreads(test.structures, list)
		if !slices.Equal(got, test.want) || (err == nil) != (test.want != nil) || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestOSThreads(t *testing.T) {
	list, err := osThreads(os.Getpid())
	if err != nil || !slices.ContainsFunc(list, func(o osThread) bool { return o.tid == os.Getpid() && o.start > 0 && o.comm != "" }) {
		t.Errorf("own threads: %+v, %v", list, err)
	}
}

func FuzzStatus(f *testing.F) {
	f.Add("Name:\tbeam.smp\nUmask:\t0022\nNSpid:\t4711\t12\t1\n", "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 0")
	f.Add("Name:\nNSpid:\n", ")")
	f.Fuzz(func(t *testing.T, status, stat string) {
		var o osThread
		o.parseStatus(status)
		o.parseStat(stat)
	})
}

func TestParseStatus(t *testing.T) {
	o := osThread{tid: 5, inner: 5}
	o.parseStatus("Name:\t1_scheduler\nUmask:\t0022\nTgid:\t5\nNSpid:\t4711\t12\t1\n")
	o.parseStat("12 (a) S (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 0")
	if want := (osThread{5, 1, "1_scheduler", 4242}); o != want {
		t.Errorf("%+v, not %+v", o, want)
	}
}

const nativeThreadSource = `
-module(native_thread).
-export([load/1, start/0, start_dirty_cpu/0, start_dirty_io/0]).
load(Path) -> erlang:load_nif(Path, 0).
start() -> erlang:nif_error(not_loaded).
start_dirty_cpu() -> erlang:nif_error(not_loaded).
start_dirty_io() -> erlang:nif_error(not_loaded).
`

func TestThreadsOfNIFsAreNative(t *testing.T) {
	compiler := testsupport.RequireCommand(t, "gcc", "gcc")
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"native_thread": nativeThreadSource}})
	include := strings.Trim(vm.Eval(t, `filename:join(code:root_dir(), "usr/include")`), `"`)
	if _, err := os.Stat(include + "/erl_nif.h"); err != nil {
		t.Skip("this test needs erl_nif.h: install erlang-dev")
	}
	library := vm.Dir + "/native_thread"
	build := exec.Command(compiler, "-shared", "-fPIC", "-I", include, "-o", library+".so", "testdata/native_thread.c")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the NIF: %v\n%s", err, text)
	}
	if got := vm.Eval(t, fmt.Sprintf("native_thread:load(%q)", library)); got != "ok" {
		t.Fatalf("loading the NIF: %s", got)
	}
	before, err := osThreads(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	if got := vm.Eval(t, "[native_thread:F() || F <- [start, start_dirty_cpu, start_dirty_io]]"); got != "[0,0,0]" {
		t.Fatalf("starting threads: %s", got)
	}
	target := attachTo(t, vm)
	after, err := osThreads(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, o := range after {
		if slices.ContainsFunc(before, func(b osThread) bool { return b.tid == o.tid }) {
			continue
		}
		names = append(names, o.comm)
		if kind, number := target.ThreadKind(o.tid, o.comm); kind != collector.ThreadNative {
			t.Errorf("a NIF's thread called %s is %v %d", o.comm, kind, number)
		}
	}
	t.Logf("names of the NIF's threads: %q", names)
	if len(names) != 3 {
		t.Errorf("%d new threads", len(names))
	}
}
