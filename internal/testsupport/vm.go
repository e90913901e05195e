package testsupport

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Limits of everything that waits for a VM. They only end what hangs: no test
// may depend on how long something takes.
const (
	startTimeout = 60 * time.Second
	evalTimeout  = 120 * time.Second
	stopTimeout  = 20 * time.Second
)

// Options say what VM StartVM starts. The zero value is a bare VM.
type Options struct {
	// Flags are passed to erl after StartVM's own, such as "+S", "2".
	Flags []string
	// Env has further "NAME=value" entries of the VM's environment.
	Env []string
	// Modules maps module names to their Erlang source. They are compiled
	// with erlc, each source once per test binary, and are in the code path.
	Modules map[string]string
	// Eval, if not empty, is evaluated once the VM is up, as by VM.Eval.
	Eval string
	// Dir is the working directory and HOME; empty means a temporary one.
	Dir string
	// Name, if not empty, makes the VM the node Name@localhost of Cluster,
	// or of a cluster of its own if that is nil.
	Name    string
	Cluster *Cluster
	// SysProcAttr, if not nil, has attributes for the new process, such as
	// namespaces to make; it always gets a process group of its own.
	SysProcAttr *syscall.SysProcAttr
}

// VM is a running Erlang VM that a test started.
type VM struct {
	// PID is the process of the emulator itself, beam.smp.
	PID int
	// Release is the OTP release, such as "25".
	Release string
	// Node is the node name, "nonode@nohost" unless Options.Name was set.
	Node string
	// Dir is the VM's working directory. Options.Modules are compiled there.
	Dir string

	erl     string
	mark    string // value of markVariable
	cmd     *exec.Cmd
	control *control
	output  output
	exited  chan struct{}
	stop    sync.Once
}

// StartVM starts an Erlang VM, waits until it answers and returns it. It ends
// with the test, at the latest. It calls RequireErlang itself.
func StartVM(t testing.TB, options Options) *VM {
	t.Helper()
	RequireErlang(t)
	vm := &VM{erl: Erl(), mark: rand.Text(), Dir: options.Dir, exited: make(chan struct{})}
	if vm.Dir == "" {
		vm.Dir = t.TempDir()
	}
	compileInto(t, vm.erl, vm.Dir, map[string]string{controlModule: controlSource})
	compileInto(t, vm.erl, vm.Dir, options.Modules)

	arguments := []string{"-noshell", "-noinput", "-pa", vm.Dir, "-s", controlModule}
	// No crash dump, no line editing history, no cookie outside of Dir.
	environment := append(os.Environ(), "HOME="+vm.Dir, markVariable+"="+vm.mark, "ERL_CRASH_DUMP_SECONDS=0", "ERL_AFLAGS=", "ERL_FLAGS=", "ERL_ZFLAGS=")
	if options.Name != "" {
		cluster := options.Cluster
		if cluster == nil {
			cluster = NewCluster(t)
		}
		arguments = append(arguments, cluster.flags(options.Name)...)
		environment = append(environment, cluster.environment()...)
	}
	vm.cmd = exec.Command(vm.erl, append(arguments, options.Flags...)...)
	vm.cmd.Dir = vm.Dir
	vm.cmd.Env = append(environment, options.Env...)
	vm.cmd.Stdout = &vm.output
	vm.cmd.Stderr = &vm.output
	vm.cmd.WaitDelay = time.Second // what it started may hold its output open
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if options.SysProcAttr != nil {
		*vm.cmd.SysProcAttr = *options.SysProcAttr
	}
	vm.cmd.SysProcAttr.Setpgid = true
	vm.start(t)
	if options.Eval != "" {
		vm.Eval(t, options.Eval)
	}
	return vm
}

// start runs the command, arranges for its end and waits for its greeting.
func (vm *VM) start(t testing.TB) {
	t.Helper()
	control, theirs, err := newControl()
	if err != nil {
		t.Fatalf("starting a VM: %v", err)
	}
	vm.control = control
	vm.cmd.ExtraFiles = theirs[:] // file descriptors 3 and 4 of the VM
	err = vm.cmd.Start()
	for _, file := range theirs {
		file.Close()
	}
	if err != nil {
		control.Close()
		t.Fatalf("starting %s: %v", vm.erl, err)
	}
	vm.PID = vm.cmd.Process.Pid
	go func() {
		_ = vm.cmd.Wait()
		close(vm.exited)
	}()
	t.Cleanup(func() {
		vm.Stop(t)
		if t.Failed() && vm.output.Len() > 0 {
			t.Logf("output of the VM with pid %d:\n%s", vm.PID, vm.output.String())
		}
	})
	greeting, err := control.receive(startTimeout)
	if err != nil {
		t.Fatalf("waiting for the VM to start: %v", err)
	}
	fields := strings.Fields(string(greeting))
	if len(fields) != 2 {
		t.Fatalf("greeting of the VM: %q", greeting)
	}
	vm.Release, vm.Node = fields[0], fields[1]
	// erl, erlexec and the emulator replace each other in one process.
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", vm.PID))
	if err != nil || !bytes.HasPrefix(comm, []byte("beam")) {
		t.Fatalf("process %d is %q, not an emulator (%v)", vm.PID, bytes.TrimSpace(comm), err)
	}
}

// Exited is closed when the VM has ended, for whatever reason.
func (vm *VM) Exited() <-chan struct{} { return vm.exited }

// Output returns what the VM wrote to stdout and stderr lately, at most 64 KiB.
func (vm *VM) Output() string { return vm.output.String() }

// PerfMap is the path of the file in which a VM started with "+JPperf", "map"
// or "true" names its code. It is removed with the VM.
func (vm *VM) PerfMap() string { return fmt.Sprintf("/tmp/perf-%d.map", vm.PID) }

// Stop kills the VM and all it started, waits until they are gone and removes
// the files it left outside of its directory. It may be called more than once.
func (vm *VM) Stop(t testing.TB) {
	t.Helper()
	vm.stop.Do(func() {
		select {
		case <-vm.exited: // its process group may be another's by now
		default:
			_ = syscall.Kill(-vm.PID, syscall.SIGKILL)
		}
		vm.control.Close()
		if err := killMarked(vm.mark, stopTimeout); err != nil {
			t.Errorf("stopping what VM with pid %d started: %v", vm.PID, err)
		}
		select {
		case <-vm.exited:
		case <-time.After(stopTimeout):
			t.Errorf("VM with pid %d did not end when killed", vm.PID)
		}
		os.Remove(vm.PerfMap())
		os.Remove(fmt.Sprintf("/tmp/jit-%d.dump", vm.PID))
	})
}

// LoadModule compiles a module and loads it into the running VM: new code, or
// a new version of a module there. An old version is purged as by code:purge/1.
func (vm *VM) LoadModule(t testing.TB, name, source string) {
	t.Helper()
	compileInto(t, vm.erl, vm.Dir, map[string]string{name: source})
	vm.Eval(t, fmt.Sprintf("begin code:purge('%s'), {module, _} = code:load_abs(%q) end", name, filepath.Join(vm.Dir, name)))
}

// output keeps the end of what a VM printed.
type output struct {
	mutex sync.Mutex
	bytes []byte
}

const outputLimit = 64 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	o.bytes = append(o.bytes, p...)
	if excess := len(o.bytes) - outputLimit; excess > 0 {
		o.bytes = append(o.bytes[:0], o.bytes[excess:]...)
	}
	return len(p), nil
}

func (o *output) Len() int {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return len(o.bytes)
}

func (o *output) String() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return string(o.bytes)
}
