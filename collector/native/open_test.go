package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/beam/memory"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// programRegion is the region of a process's main program.
func programRegion(t *testing.T, s *Space, program string) *region {
	t.Helper()
	for _, r := range s.regions {
		if r.path == program {
			return r
		}
	}
	t.Fatalf("%s is not mapped", program)
	return nil
}

// Each of the ways to open a mapped file, for a program that is there, one
// that was deleted and one in whose place another one stands.
func TestOpenMapped(t *testing.T) {
	other, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change        func(program string) error
		deleted, path bool // whether maps says deleted; whether the path still leads to the file
	}{
		"unchanged": {func(string) error { return nil }, false, true},
		"deleted":   {os.Remove, true, false},
		"replaced": {func(program string) error {
			if err := os.WriteFile(program+".new", other, 0o755); err != nil {
				return err
			}
			return os.Rename(program+".new", program)
		}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			program := compile(t)
			pid := start(t, program)
			if err := test.change(program); err != nil {
				t.Fatal(err)
			}
			s := open(t, pid)
			r := programRegion(t, s, program)
			if r.deleted != test.deleted {
				t.Errorf("deleted: %v", r.deleted)
			}
			if file := s.openProgram(&r.mapLine); file == nil {
				t.Error("not opened as the process's program")
			} else {
				file.Close()
			}
			file, err := s.openPath(&r.mapLine)
			if (err == nil) != test.path {
				t.Errorf("by path: %v", err)
			}
			file.Close()
			if got := s.Symbol(symbolAddress(t, s, "chain", "hold"), true); got.Name != "hold" || got.Mapping.File != program {
				t.Errorf("%+v", got)
			}
		})
	}
}

func symbolAddress(t *testing.T, s *Space, object, name string) uint64 {
	t.Helper()
	address, ok := s.SymbolAddress(object, name)
	if !ok {
		t.Fatalf("no symbol %s in %s: %v", name, object, s.Problems())
	}
	return address
}

// A container's files are in a file system that is not mounted where we are.
func TestOpenInOtherMountNamespace(t *testing.T) {
	testsupport.RequireRoot(t)
	unshare := testsupport.RequireCommand(t, "unshare", "util-linux")
	program, root := compile(t, "-static"), t.TempDir()
	inside := filepath.Join(root, "inside")
	pid := start(t, unshare, "-m", "sh", "-c", fmt.Sprintf(
		"mount -t tmpfs none %s && cp %s %s && exec %s", root, program, inside, inside))
	if _, err := os.Stat(inside); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the program is visible from here: %v", err)
	}
	s := open(t, pid)
	r := programRegion(t, s, inside)
	file, err := s.openPath(&r.mapLine)
	if err != nil {
		t.Error(err)
	}
	file.Close()
	regs, stack := blocked(t, pid, pid)
	if pcs, end := s.Unwind(&regs, stack, nil, nil); end != EndRoot {
		t.Errorf("end %v: %q", end, names(s, pcs))
	}
}

func TestObjectsOfProcess(t *testing.T) {
	pid := start(t, compile(t, "-Wl,--build-id=0x0123456789abcdef"))
	s := open(t, pid)
	m, ok := s.Find(symbolAddress(t, s, "chain", "hold"))
	if !ok || m.BuildID != "0123456789abcdef" || filepath.Base(m.File) != "chain" || m.Start >= m.Limit {
		t.Errorf("%+v, %v", m, ok)
	}
	if again, _ := s.Find(m.Start); again != m {
		t.Error("another mapping for the same region")
	}
	if vdso, ok := s.Find(symbolAddress(t, s, vdsoName, "__vdso_gettimeofday")); !ok || vdso.File != vdsoName || vdso.BuildID == "" {
		t.Errorf("vdso: %+v, %v", vdso, ok)
	}
	for _, pc := range []uint64{0, m.Start - 1<<20, 1 << 63, 1<<64 - 1} {
		if m, ok := s.Find(pc); ok {
			t.Errorf("%#x is in %+v", pc, m)
		}
		if symbol := s.Symbol(pc, true); symbol.Resolved || symbol.Name != fmt.Sprintf("%#x", pc) {
			t.Errorf("%#x is %+v", pc, symbol)
		}
	}
	if err := s.Refresh(); err != nil {
		t.Error(err)
	}
	if again, _ := s.Find(m.Start); again != m {
		t.Error("another mapping after a refresh")
	}
}

// The VM loads libcrypto when it is first needed; its JIT's code is shared
// memory with a name and no object.
func TestRefreshFindsLoadedLibrary(t *testing.T) {
	vm := testsupport.StartVM(t, testsupport.Options{})
	s := open(t, vm.PID)
	program, _ := s.Find(symbolAddress(t, s, "beam.smp", "erts_schedule"))
	if _, ok := s.SymbolAddress("crypto.so", "nif_init"); ok {
		t.Skip("this VM has loaded crypto already")
	}
	vm.Eval(t, "crypto:start()")
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	symbolAddress(t, s, "crypto.so", "nif_init")
	if again, _ := s.Find(program.Start); again != program {
		t.Error("beam.smp has another mapping")
	}
	for _, r := range s.regions {
		if _, ok := s.Find(r.start); ok && strings.HasPrefix(r.path, "/memfd:") {
			t.Errorf("%s is taken for an object", r.path)
		}
	}
	if len(s.Problems()) > 0 {
		t.Error(s.Problems())
	}
}

func TestOpenFailures(t *testing.T) {
	if _, err := Open(1 << 30); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no such process: %v", err)
	}
	vm := testsupport.StartVM(t, testsupport.Options{})
	s := open(t, vm.PID)
	vm.Stop(t)
	err := s.Refresh()
	for deadline := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(deadline); err = s.Refresh() {
		time.Sleep(5 * time.Millisecond)
	}
	if !errors.Is(err, memory.ErrExited) {
		t.Errorf("exited process: %v", err)
	}
}
