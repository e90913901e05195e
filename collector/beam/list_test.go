package beam

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

func find(t *testing.T, pid int) (Candidate, bool) {
	t.Helper()
	list, err := List()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.IsSortedFunc(list, func(a, b Candidate) int { return a.PID - b.PID }) {
		t.Errorf("not sorted: %+v", list)
	}
	i := slices.IndexFunc(list, func(c Candidate) bool { return c.PID == pid })
	if i < 0 {
		return Candidate{}, false
	}
	return list[i], true
}

func TestListFindsVMs(t *testing.T) {
	for name, options := range map[string]testsupport.Options{
		"bare":           {},
		"with a name":    {Name: "beamprof_beam_list"},
		"in namespaces":  {SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}},
		"frame pointers": {Flags: []string{"+JPperf", "true"}},
	} {
		t.Run(name, func(t *testing.T) {
			if options.SysProcAttr != nil {
				testsupport.RequireRoot(t)
			}
			vm := testsupport.StartVM(t, options)
			t.Cleanup(func() { removePerfFiles(vm) })
			c, ok := find(t, vm.PID)
			if !ok || c.Err != nil {
				t.Fatalf("%+v, found: %v", c, ok)
			}
			compareInfo(t, vm, c.Info)
			vm.Stop(t)
			if c, ok := find(t, vm.PID); ok {
				t.Errorf("a VM that has ended is listed: %+v", c)
			}
		})
	}
	if c, ok := find(t, os.Getpid()); ok {
		t.Errorf("this test is listed: %+v", c)
	}
}

// copyOfVM returns a command that starts the program of a VM again, from a
// file of another name, with the arguments and the environment that erl gave it.
func copyOfVM(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	vm := testsupport.StartVM(t, testsupport.Options{})
	directory := t.TempDir()
	read := func(file string) []byte {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", vm.PID, file))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if err := os.WriteFile(filepath.Join(directory, name), read("exe"), 0o755); err != nil {
		t.Fatal(err)
	}
	arguments := strings.Split(strings.TrimRight(string(read("cmdline")), "\x00"), "\x00")
	// Not the module that answers the test: it would miss its file descriptors.
	at := slices.Index(arguments, "-s")
	arguments = slices.Delete(arguments, at, at+2)
	command := exec.Command(filepath.Join(directory, name), arguments[1:]...)
	for variable := range strings.SplitSeq(strings.TrimRight(string(read("environ")), "\x00"), "\x00") {
		if !strings.HasPrefix(variable, "BEAMPROF_") {
			command.Env = append(command.Env, variable)
		}
	}
	vm.Stop(t)
	command.Dir = directory
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}

// start starts a command, and ends it and its children with the test.
func start(t *testing.T, command *exec.Cmd) int {
	t.Helper()
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", output.String())
		}
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		command.Wait()
	})
	return command.Process.Pid
}

// A VM is one by what it is, whatever its file is called.
func TestListKnowsRenamedVM(t *testing.T) {
	command := copyOfVM(t, "my-service")
	pid := start(t, command)
	deadline := time.Now().Add(time.Minute)
	for {
		c, ok := find(t, pid)
		if ok && c.Err == nil {
			if filepath.Base(c.Executable) != "my-service" {
				t.Errorf("executable %s", c.Executable)
			}
			break
		}
		// Until it is up, it is no VM (not executed yet) or one that is starting.
		if ok && !errors.Is(c.Err, ErrStarting) {
			t.Fatalf("while starting: %+v", c)
		}
		if syscall.Kill(pid, 0) != nil || time.Now().After(deadline) {
			t.Fatalf("the VM does not come up: %+v", c)
		}
		time.Sleep(5 * time.Millisecond)
	}
	// The package was upgraded meanwhile.
	if err := os.Remove(command.Path); err != nil {
		t.Fatal(err)
	}
	if c, ok := find(t, pid); !ok || c.Err != nil || c.Executable != command.Path {
		t.Errorf("with its file removed: %+v, found %v", c, ok)
	}
	for {
		target, err := Attach(pid)
		if err == nil {
			target.Close()
			return
		}
		// It is still loading code and starting servers.
		if !errors.Is(err, ErrStarting) || time.Now().After(deadline) {
			t.Fatal(err)
		}
		t.Log(err)
		time.Sleep(5 * time.Millisecond)
	}
}

// A VM stopped before its first instruction has nothing set up.
func TestVMThatHasNotStarted(t *testing.T) {
	testsupport.RequireRoot(t)
	command := copyOfVM(t, "beam.smp")
	command.SysProcAttr.Ptrace = true // stops it as it begins to execute
	pid := start(t, command)
	c, ok := find(t, pid)
	if !ok || !errors.Is(c.Err, ErrStarting) || c.Release == "" && c.ERTS != "" {
		t.Errorf("%+v, found %v", c, ok)
	}
	if _, err := Attach(pid); !errors.Is(err, ErrStarting) {
		t.Errorf("attach: %v", err)
	}
}
