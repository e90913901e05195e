package native

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// gdbFrame is what testdata/frames.py says of a frame.
type gdbFrame struct {
	PC, SP    uint64
	Registers map[string]uint64
	Name      string
}

// gdbStop is one thread at one moment, leaf first.
type gdbStop struct {
	Frames []gdbFrame
	Base   uint64
	Stack  string
}

// stopWithGDB lets gdb look at a process of the test's own and go away again.
// It looks at all threads once, or at the current one after each of steps
// instructions.
func stopWithGDB(t *testing.T, pid, steps int) []gdbStop {
	t.Helper()
	gdb := testsupport.RequireCommand(t, "gdb", "gdb")
	out := filepath.Join(t.TempDir(), "frames")
	cmd := exec.Command("timeout", "120", gdb, "-nx", "-batch", "-p", fmt.Sprint(pid), "-x", "testdata/frames.py")
	cmd.Env = append(os.Environ(), "BEAMPROF_OUT="+out, fmt.Sprintf("BEAMPROF_STEPS=%d", steps),
		"BEAMPROF_REGISTERS="+strings.Join(slices.Collect(maps.Keys(registerNames)), ","), "DEBUGINFOD_URLS=")
	log, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gdb: %v\n%s", err, log)
	}
	file, err := os.Open(out)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	defer file.Close()
	var stops []gdbStop
	lines := bufio.NewReader(file)
	for decoder := json.NewDecoder(lines); decoder.More(); {
		var stop gdbStop
		if err := decoder.Decode(&stop); err != nil {
			t.Fatal(err)
		}
		stops = append(stops, stop)
	}
	if len(stops) == 0 {
		t.Fatalf("gdb saw nothing\n%s", log)
	}
	return stops
}

// compare walks a stack as gdb did, frame by frame, and compares program
// counter, stack pointer and callee-saved registers. gdb's frames count up to
// the first outside of all objects: JIT code, of which it knows nothing.
// It returns how many frames were equal and how the walk ended.
func compare(t *testing.T, s *Space, stop gdbStop) (frames int, end End) {
	t.Helper()
	bytes, err := hex.DecodeString(stop.Stack)
	if err != nil {
		t.Fatal(err)
	}
	stack := Stack{Base: stop.Base, Bytes: bytes}
	regs := registersOf(stop.Frames[0])
	if _, inside := s.Find(regs.PC); !inside {
		return 0, EndBoundary
	}
	var path []string
	for i := 0; ; i++ {
		want := stop.Frames[i]
		path = append(path, s.Symbol(want.PC, i == 0).Name)
		if regs.PC != want.PC || regs.SP != want.SP {
			t.Errorf("frame %d: pc %#x sp %#x, gdb says pc %#x sp %#x; leaf first: %q", i, regs.PC, regs.SP, want.PC, want.SP, path)
			return i, EndBroken
		}
		for name, number := range registerNames {
			v, ok := regs.Known(number)
			if w, known := want.Registers[name]; known && (!ok || v != w) {
				t.Errorf("frame %d: %s is %#x (known: %v), gdb says %#x; leaf first: %q", i, name, v, ok, w, path)
			}
		}
		// One frame at a time: the boundary is wherever the walk gets to.
		var pcs []uint64
		next := regs
		if i == 0 {
			pcs, end = s.Unwind(&next, stack, func(uint64) bool { return true }, nil)
		} else {
			pcs, end = s.unwind(&next, stack, func(uint64) bool { return true }, nil, false)
		}
		if len(pcs) != 1 {
			t.Fatalf("%d frames instead of one", len(pcs))
		}
		if end != EndBoundary {
			if i+1 < len(stop.Frames) && end != EndMemory {
				t.Errorf("%v after %d of %d frames; leaf first: %q", end, i+1, len(stop.Frames), path)
			}
			return i + 1, end
		}
		regs = next
		if _, inside := s.Find(regs.PC); !inside {
			return i + 1, EndBoundary
		}
		if i+1 == len(stop.Frames) {
			t.Errorf("gdb has no frame after %q", path)
			return i + 1, end
		}
	}
}

func registersOf(f gdbFrame) Registers {
	regs := Registers{PC: f.PC, SP: f.SP}
	for name, number := range registerNames {
		if v, ok := f.Registers[name]; ok {
			regs.Set(number, v)
		}
	}
	return regs
}

// At each instruction of a program that calls libraries: first and last ones
// of functions, PLT entries, the dynamic linker as it binds them.
func TestUnwindEveryInstructionLikeGDB(t *testing.T) {
	for _, name := range []string{"pie", "static"} {
		t.Run(name, func(t *testing.T) {
			pid := start(t, compile(t, append(builds[name], "-Wl,-z,lazy")...), "busy")
			s := open(t, pid)
			frames, functions := 0, map[string]bool{}
			for _, stop := range stopWithGDB(t, pid, 3000) {
				n, end := compare(t, s, stop)
				frames += n
				if end != EndRoot {
					t.Errorf("end %v", end)
				}
				functions[s.Symbol(stop.Frames[0].PC, true).Name] = true
				if t.Failed() {
					break
				}
			}
			t.Logf("%d frames, leaves in %q", frames, slices.Sorted(maps.Keys(functions)))
		})
	}
}

// load keeps a VM in C code of all kinds: BIFs, collections, libcrypto,
// regular expressions, files.
const load = `
F = fun(F, G) -> G(), F(F, G) end,
[spawn_link(fun() -> F(F, G) end) || G <- [
	fun() -> crypto:hash(sha256, binary:copy(<<"x">>, 5000)) end,
	fun() -> lists:sort([erlang:phash2(X) || X <- lists:seq(1, 500)]) end,
	fun() -> re:run(binary:copy(<<"ab">>, 500), "(a|b)*c") end,
	fun() -> binary_to_term(term_to_binary(lists:seq(1, 1000))) end,
	fun() -> [ets:insert(T, {X, X}) || T <- [ets:new(t, [])], X <- lists:seq(1, 100)] end,
	fun() -> file:read_file_info("/") end,
	fun() -> zlib:compress(binary:copy(<<"y">>, 3000)) end]],
crypto:start()`

// In a busy VM at random moments, all threads.
func TestUnwindBusyVMLikeGDB(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{Eval: load})
	s := open(t, vm.PID)
	frames, ends := 0, map[End]int{}
	for range 5 {
		time.Sleep(50 * time.Millisecond)
		if err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
		for _, stop := range stopWithGDB(t, vm.PID, 0) {
			n, end := compare(t, s, stop)
			frames += n
			ends[end]++
		}
	}
	t.Logf("%d frames, ends %v", frames, ends)
	if len(s.Problems()) > 0 {
		t.Error(s.Problems())
	}
}
