package jit_test

import (
	"debug/elf"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/collector/beam/memory"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// openVM opens the code of a VM that a test started.
func openVM(t testing.TB, vm *testsupport.VM) *jit.Table {
	t.Helper()
	table, err := jit.Open(vmMemory(t, vm), descriptorAddress(t, vm.PID))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func vmMemory(t testing.TB, vm *testsupport.VM) *memory.Process {
	t.Helper()
	process, err := memory.Open(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Close() })
	return process
}

// descriptorAddress finds __jit_debug_descriptor of a running beam.smp: its
// symbol plus what the executable was moved by.
func descriptorAddress(t testing.TB, pid int) uint64 {
	t.Helper()
	file, err := elf.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, _ := file.DynamicSymbols()
	static, _ := file.Symbols()
	for _, symbol := range append(symbols, static...) {
		if symbol.Name == "__jit_debug_descriptor" {
			return symbol.Value + loadBias(t, pid, file)
		}
	}
	t.Skip("this VM has no JIT, or hides its descriptor")
	return 0
}

func loadBias(t testing.TB, pid int, file *elf.File) uint64 {
	t.Helper()
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line) // start-end, flags, offset, device, inode, path
		if len(fields) < 6 || fields[5] != executable || fields[2] != "00000000" {
			continue
		}
		start, _, _ := strings.Cut(fields[0], "-")
		address, err := strconv.ParseUint(start, 16, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range file.Progs {
			if program.Type == elf.PT_LOAD && program.Off == 0 {
				return address - program.Vaddr
			}
		}
	}
	t.Fatalf("%s is not in the memory map of process %d", executable, pid)
	return 0
}

// mapped is a line of the map that a VM with +JPperf map writes for perf.
type mapped struct {
	start, size uint64
	name        string
}

// perfMap returns what the VM has written so far, the oldest first.
func perfMap(t testing.TB, vm *testsupport.VM) []mapped {
	t.Helper()
	text, err := os.ReadFile(vm.PerfMap())
	if err != nil {
		t.Fatal(err)
	}
	var all []mapped
	for line := range strings.Lines(string(text)) {
		var m mapped
		address, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		size, name, _ := strings.Cut(rest, " ")
		m.start, err = strconv.ParseUint(address, 0, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m.size, err = strconv.ParseUint(size, 16, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		m.name = strings.TrimPrefix(name, "$")
		all = append(all, m)
	}
	return all
}

// mappedFunction returns the newest code of a name.
func mappedFunction(t testing.TB, vm *testsupport.VM, name string) mapped {
	t.Helper()
	var found mapped
	for _, m := range perfMap(t, vm) {
		if m.name == name {
			found = m
		}
	}
	if found.start == 0 {
		t.Fatalf("the VM has not mapped %s", name)
	}
	return found
}
