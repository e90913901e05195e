package beam

import (
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// allProcesses returns every process in the process table.
func allProcesses(t testing.TB, target *Target) []slotted {
	t.Helper()
	slots := make([]uint64, target.processes.max)
	if err := target.Memory.Words(slots, target.processes.slots); err != nil {
		t.Fatal(err)
	}
	var all []slotted
	for i, addr := range slots {
		if target.isProcess(addr) {
			all = append(all, slotted{uint64(i), addr})
		}
	}
	return all
}

// identify identifies a process from a fresh copy of its head.
func identify(t testing.TB, target *Target, addr uint64, root string) *collector.Process {
	t.Helper()
	head, err := target.readHead(addr)
	if err != nil {
		t.Fatal(err)
	}
	p, err := target.Identify(addr, head, root, Copied{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func attachTo(t testing.TB, vm *testsupport.VM) *Target {
	t.Helper()
	target, err := Attach(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { target.Close() })
	return target
}

// processOf returns the address of the process whose pid is the value of an expression.
func processOf(t testing.TB, vm *testsupport.VM, target *Target, expression string) uint64 {
	t.Helper()
	want := vm.Eval(t, expression)
	for _, p := range allProcesses(t, target) {
		id, err := target.Memory.Uint64(p.addr + uint64(target.Layout.Process.ID))
		if text, ok := target.FormatPID(id); err == nil && ok && text == want {
			return p.addr
		}
	}
	t.Fatalf("process %s, %s, not found", expression, want)
	return 0
}
