package native

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector/beam/memory"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// compile builds testdata/chain.c with the options given and returns the path.
func compile(t testing.TB, options ...string) string {
	t.Helper()
	compiler := testsupport.RequireCommand(t, "gcc", "gcc")
	program := filepath.Join(t.TempDir(), "chain")
	arguments := append([]string{"-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-o", program, "testdata/chain.c"}, options...)
	if out, err := exec.Command(compiler, append(arguments, "-lm")...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// start runs a program of the test's own until the test ends, and returns its
// pid when it says that it is ready.
func start(t testing.TB, program string, arguments ...string) int {
	t.Helper()
	cmd := exec.Command(program, arguments...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("waiting for %s: %q, %v", program, line, err)
	}
	return cmd.Process.Pid
}

func open(t testing.TB, pid int) *Space {
	t.Helper()
	s, err := Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// blocked waits until a thread blocks in a system call and returns its
// program counter and stack pointer, which is all that can be seen of a thread
// without stopping it, and up to 16 KiB of its stack.
func blocked(t testing.TB, pid, tid int) (Registers, Stack) {
	t.Helper()
	m, err := memory.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var last string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/syscall", pid, tid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text))
		if last = string(text); len(fields) != 9 {
			continue // running
		}
		var regs Registers
		if _, err := fmt.Sscanf(fields[7]+" "+fields[8], "%v %v", &regs.SP, &regs.PC); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		for size := uint64(16 << 10); size > 0; size -= 512 {
			stack := Stack{Base: regs.SP, Bytes: make([]byte, size)}
			if m.Read(stack.Bytes, regs.SP) == nil {
				return regs, stack
			}
		}
	}
	t.Fatalf("thread %d of %d does not block: %q", tid, pid, last)
	return Registers{}, Stack{}
}

// names are those of the functions of a walk.
func names(s *Space, pcs []uint64) []string {
	var list []string
	for i, pc := range pcs {
		list = append(list, s.Symbol(pc, i == 0).Name)
	}
	return list
}
