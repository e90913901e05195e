// Package testsupport is what the tests of several packages share: checks of
// what the machine offers, and real Erlang VMs to profile.
//
// A test states its needs first and then starts what it profiles:
//
//	testsupport.RequireBPF(t)
//	vm := testsupport.StartVM(t, testsupport.Options{
//		Flags:   []string{"+S", "2"},
//		Modules: map[string]string{"spin": spinSource},
//		Eval:    "register(spinner, spawn(spin, loop, []))",
//	})
//	schedulers := vm.EvalInt(t, "erlang:system_info(schedulers)")
//
// Everything started ends with the test: the VM, the programs it started and
// the files it wrote. Nothing listens but on loopback, and a VM without a
// Cluster does not listen at all.
package testsupport

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// RequireVariable is the environment variable that turns skips for want of
// privileges, BPF, Erlang or a tool into failures when it is "1". CI sets it,
// so that a green run there has run everything.
const RequireVariable = "BEAMPROF_REQUIRE_BPF"

// missing ends a test that cannot run on this machine: skipped, or failed
// where RequireVariable says that the machine must have everything.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv(RequireVariable) == "1" {
		t.Fatalf(RequireVariable+"=1, but "+format, args...)
	}
	t.Skipf(format, args...)
}

// RequireRoot skips the test unless it runs as root.
func RequireRoot(t testing.TB) {
	t.Helper()
	if uid := os.Geteuid(); uid != 0 {
		missing(t, "this test needs root (running as uid %d)", uid)
	}
}

// RequireBPF skips the test unless this process may load a perf_event program
// and open a software perf event on CPU 0, which is all that sampling needs.
func RequireBPF(t testing.TB) {
	t.Helper()
	RequireRoot(t)
	if err := bpfWorks(); err != nil {
		missing(t, "this test needs BPF and perf events: %v", err)
	}
}

var bpfWorks = sync.OnceValue(func() error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return err
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.PerfEvent,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		License:      "Apache-2.0",
	})
	if err != nil {
		return err
	}
	program.Close()
	fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Sample: 1e9,
		Bits:   unix.PerfBitDisabled,
	}, -1, 0, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("perf_event_open", err)
	}
	return unix.Close(fd)
})

// RequireKernel skips the test if err, which is of looking for it or using it, says
// that this kernel does not have a feature.
func RequireKernel(t testing.TB, feature string, err error) {
	t.Helper()
	if err != nil {
		missing(t, "this test needs a kernel with %s: %v", feature, err)
	}
}

// RequireErlang skips the test unless an Erlang/OTP is installed, of any
// release. See Erl for where it is looked for.
func RequireErlang(t testing.TB) {
	t.Helper()
	if Erl() == "" {
		missing(t, "this test needs Erlang/OTP: install erlang-base, or set BEAMPROF_ERL to the path of erl")
	}
}

// RequireCommand skips the test unless a program is found in PATH; packageName
// is the Debian package to name when it is not. It returns the program's path.
func RequireCommand(t testing.TB, name, packageName string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "this test needs %s: install %s", name, packageName)
	}
	return path
}

// Erl returns the path of the erl program that StartVM runs: $BEAMPROF_ERL if
// it is set, else the first erl in PATH or at the usual places of packages and
// self-built releases; empty if there is none. Its erlc lies beside it.
func Erl() string {
	if path := os.Getenv("BEAMPROF_ERL"); path != "" {
		return path
	}
	if path, err := exec.LookPath("erl"); err == nil {
		return path
	}
	for _, path := range []string{"/usr/lib/erlang/bin/erl", "/usr/local/lib/erlang/bin/erl", "/opt/erlang/bin/erl"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// beside returns the path of a program of the same Erlang/OTP as erl.
func beside(erl, program string) string {
	directories := []string{filepath.Dir(erl)}
	if real, err := filepath.EvalSymlinks(erl); err == nil {
		directories = append(directories, filepath.Dir(real))
	}
	for _, directory := range directories {
		path := filepath.Join(directory, program)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return program
}
