package native

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// The kinds of programs there are: position independent and not, statically
// linked, lazily bound, without a symbol table of its own.
var builds = map[string][]string{
	"pie":          {"-pie", "-fPIE"},
	"no pie":       {"-no-pie", "-fno-pie"},
	"static":       {"-static"},
	"static pie":   {"-static-pie", "-fPIE"},
	"no eh header": {"-Wl,--no-eh-frame-hdr", "-static"},
}

func TestUnwindKnownStack(t *testing.T) {
	for name, options := range builds {
		t.Run(name, func(t *testing.T) {
			pid := start(t, compile(t, options...))
			s := open(t, pid)
			regs, stack := blocked(t, pid, pid)
			pcs, end := s.Unwind(&regs, stack, nil, nil)
			got := names(s, pcs)
			// What comes between main and _start is the C library's matter.
			want := []string{"pause", "hold", "set_registers", "second", "first", "main"}
			if end != EndRoot || len(got) < len(want)+1 || !slices.Equal(got[:len(want)], want) || got[len(got)-1] != "_start" {
				t.Errorf("end %v, stack %q, problems %v", end, got, s.Problems())
			}
		})
	}
}

func TestUnwindToBoundaryRecoversRegisters(t *testing.T) {
	pid := start(t, compile(t))
	s := open(t, pid)
	regs, stack := blocked(t, pid, pid)
	inSet := func(pc uint64) bool { return s.Symbol(pc, false).Name == "set_registers" }
	pcs, end := s.Unwind(&regs, stack, inSet, nil)
	if got := names(s, pcs); end != EndBoundary || !slices.Equal(got, []string{"pause", "hold"}) {
		t.Fatalf("end %v, stack %q", end, got)
	}
	if !inSet(regs.PC) {
		t.Errorf("pc %#x is not in set_registers", regs.PC)
	}
	if word, ok := stack.word(regs.SP - 8); s.arch.returnInRegister || ok && word == regs.PC {
		// right: on amd64 the return address lies just below the caller's stack pointer
	} else {
		t.Errorf("sp %#x: the word below is %#x, not the return address %#x", regs.SP, word, regs.PC)
	}
	for i, register := range setRegisters {
		if v, ok := regs.Known(register); !ok || v != 0x1001+uint64(i) {
			t.Errorf("register %d = %#x, %v", register, v, ok)
		}
	}
}

func TestUnwindEndsWithRecordedMemory(t *testing.T) {
	pid := start(t, compile(t))
	s := open(t, pid)
	regs, stack := blocked(t, pid, pid)
	whole, _ := s.Unwind(new(regs), stack, nil, nil)
	for size := 0; size < len(stack.Bytes); size += 8 {
		pcs, end := s.Unwind(new(regs), Stack{Base: stack.Base, Bytes: stack.Bytes[:size]}, nil, nil)
		if !slices.Equal(pcs, whole[:len(pcs)]) || len(pcs) < len(whole) && end != EndMemory {
			t.Fatalf("%d bytes: end %v after %d of %d frames", size, end, len(pcs), len(whole))
		}
		if len(pcs) == len(whole) {
			return
		}
	}
	t.Error("the whole stack was never reached")
}

// A signal strikes between instructions: the frame it interrupted is at its
// function's first one, so the byte before belongs to another function.
func TestUnwindThroughSignal(t *testing.T) {
	for _, name := range []string{"pie", "static"} {
		t.Run(name, func(t *testing.T) {
			pid := start(t, compile(t, builds[name]...), "with", "fault")
			s := open(t, pid)
			regs, stack := blocked(t, pid, pid)
			pcs, end := s.Unwind(&regs, stack, nil, nil)
			got := names(s, pcs)
			if len(got) < 6 || end != EndRoot {
				t.Fatalf("end %v, stack %q", end, got)
			}
			got[2] = "" // the C library's trampoline, which has no name of its own everywhere
			if want := []string{"pause", "on_signal", "", "fault", "before_fault", "main"}; !slices.Equal(got[:6], want) {
				t.Errorf("stack %q", got)
			}
		})
	}
}

// Every thread of an idle VM blocks somewhere in the C library; what the
// callee-saved registers hold there is not known to us. The schedulers were
// called by JIT code, which is in no object; the other threads by clone.
func TestUnwindIdleVM(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	s := open(t, vm.PID)
	outside := func(pc uint64) bool { _, inside := s.Find(pc); return !inside }
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", vm.PID))
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		regs, stack := blocked(t, vm.PID, tid)
		pcs, end := s.Unwind(&regs, stack, outside, nil)
		list := names(s, pcs)
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", vm.PID, tid))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-16s %v %s", strings.TrimSpace(string(comm)), end, strings.Join(list, " < "))
		want := EndRoot
		if _, kind, _ := strings.Cut(string(comm), "_"); strings.TrimSpace(kind) == "scheduler" {
			want = EndBoundary
		}
		if end != want {
			t.Errorf("%s ends with %v in %s", comm, end, list[len(list)-1])
		}
	}
	if len(s.Problems()) > 0 {
		t.Error(s.Problems())
	}
}
