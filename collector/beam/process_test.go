package beam

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// pidsSource spawns processes whose pids are far apart: with the smallest
// process table, numbers and serials are used up as if the VM had run for years.
const pidsSource = `
-module(pids).
-export([start/1, wait/0]).

start(Steps) ->
    erts_debug:set_internal_state(available_internal_state, true),
    [begin
        _ = erts_debug:set_internal_state(next_pid, Next),
        spawn(?MODULE, wait, [])
     end || Next <- Steps],
    ok.

wait() -> receive stop -> ok end.
`

func TestPIDsAsTheVMPrintsThem(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Modules: map[string]string{"pids": pidsSource}, Flags: []string{"+P", "32768"}})
	vm.Eval(t, `pids:start([1000, 32766, 32767, 32768, 65535, 65536, 1 bsl 20, (1 bsl 24) + 5, (1 bsl 28) - 40, (1 bsl 28) - 2])`)
	target := attachTo(t, vm)
	var got []string
	for _, p := range allProcesses(t, target) {
		id, err := target.Memory.Uint64(p.addr + uint64(target.Layout.Process.ID))
		if err != nil {
			t.Fatal(err)
		}
		text, ok := target.FormatPID(id)
		if !ok {
			t.Errorf("%#x is no pid", id)
		}
		got = append(got, text)
		var number, serial uint32
		if _, err := fmt.Sscanf(text, "<0.%d.%d>", &number, &serial); err != nil {
			t.Fatal(err)
		}
		if term, ok := target.PIDTerm(number, serial); !ok || term != id {
			t.Errorf("%s is %#x, %v, not %#x", text, term, ok, id)
		}
		if addr, ok := target.ProcessByPID(id); !ok || addr != p.addr {
			t.Errorf("%s is at %#x, %v, not at %#x", text, addr, ok, p.addr)
		}
		if addr, ok := target.ProcessByPID(id ^ 1<<(4+target.Layout.PID.NumberBits)); ok {
			t.Errorf("a pid of another serial than %s is the process at %#x", text, addr)
		}
	}
	want := strings.Fields(string(vm.EvalBytes(t, `lists:join(" ", [pid_to_list(P) || P <- processes()])`)))
	slices.Sort(got)
	slices.Sort(want)
	for _, pid := range want {
		if _, found := slices.BinarySearch(got, pid); !found {
			t.Errorf("the VM's process %s was not found", pid)
		}
	}
	large := slices.IndexFunc(want, func(pid string) bool { return strings.HasSuffix(pid, ".8191>") })
	if large < 0 {
		t.Errorf("no pid with the largest serial in %v", want)
	}
	t.Logf("%d of %d pids equal", len(want), len(got))
}

func TestNoPID(t *testing.T) {
	target := &Target{Layout: &layoutOTP25JITAMD64}
	for _, term := range []uint64{0, 0x3b, 0x7, 0xb, 0xf, 0x1, 0x2, 0xffffffffffffffff} {
		if text, ok := target.FormatPID(term); ok {
			t.Errorf("%#x is pid %s", term, text)
		}
		if addr, ok := target.ProcessByPID(term); ok {
			t.Errorf("%#x is the pid of the process at %#x", term, addr)
		}
	}
}

// The packing of OTP 27, of which there is no VM here yet (erl_term.h: _PID_NUM_SIZE 28, _PID_DATA_SIZE 60).
func TestPIDLayouts(t *testing.T) {
	classic := PIDLayout{NumberBits: 15, SerialBits: 13, IndexShift: 32}
	wide := PIDLayout{NumberBits: 28, SerialBits: 32, IndexShift: 4}
	for _, test := range []struct {
		layout PIDLayout
		term   uint64
		text   string
	}{
		{classic, 0x0000002a_00000053, "<0.5.0>"},
		{classic, 0x0000002a_fffffff3, "<0.32767.8191>"},
		{classic, 0x0000002a_00080003, "<0.0.1>"},
		{wide, 0x53, "<0.5.0>"},
		{wide, 0xfffffffffffffff3, "<0.268435455.4294967295>"},
		{wide, 1<<32 | 3, "<0.0.1>"},
	} {
		if got := test.layout.format(test.term); got != test.text {
			t.Errorf("%+v.format(%#x) = %s, not %s", test.layout, test.term, got, test.text)
		}
	}
}
