package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/summary"
)

// busyVM starts a VM with a process that never rests.
func busyVM(t *testing.T) *testsupport.VM {
	t.Helper()
	testsupport.RequireBPF(t)
	testsupport.RequireErlang(t)
	return testsupport.StartVM(t, testsupport.Options{Eval: `register(spinner, spawn(fun() -> (fun Loop(N) -> Loop(lists:sum([N, 1])) end)(0) end)), ok`})
}

// recording is `beamprof record` at work.
type running struct {
	*exec.Cmd
	stdout, stderr bytes.Buffer
	dir            string
}

// startRecord starts `beamprof record` and waits until it samples.
func startRecord(t *testing.T, vm *testsupport.VM, args ...string) *running {
	t.Helper()
	r := &running{dir: filepath.Join(t.TempDir(), "out")}
	r.Cmd = exec.Command(binary, append([]string{"record", "--pid", strconv.Itoa(vm.PID), "--output", r.dir}, args...)...)
	r.Stdout = &r.stdout
	pipe, err := r.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Process.Kill() })
	started := make(chan bool, 1)
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, err := pipe.Read(buffer)
			r.stderr.Write(buffer[:n])
			if err != nil || strings.Contains(r.stderr.String(), "profiling") {
				started <- err == nil
				return
			}
		}
	}()
	select {
	case ok := <-started:
		if !ok {
			r.Wait()
			t.Fatalf("it ended: %s", &r.stderr)
		}
	case <-time.After(60 * time.Second):
		t.Fatal("it does not begin")
	}
	return r
}

func (r *running) code() int { return r.ProcessState.ExitCode() }

func TestLiveRecord(t *testing.T) {
	vm := busyVM(t)
	r := startRecord(t, vm, "--duration", "2s")
	if err := r.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &r.stderr)
	}
	p, s := readBack(t, r.dir)
	if s.CPU.Samples == 0 || len(s.ProcessKinds) == 0 || s.ProcessKinds[0].Kind != "spinner" || len(s.Processes) == 0 {
		t.Errorf("the spinner is not the busiest process:\n%s", &r.stdout)
	}
	if !strings.HasSuffix(p.Mapping[0].File, "/beam.smp") || p.Mapping[0].BuildID == "" {
		t.Errorf("the profile is of %+v", p.Mapping[0])
	}
	if s.Target.PID != vm.PID || s.Target.OTPRelease != vm.Release || s.Window.Frequency != 99 {
		t.Errorf("target %+v, window %+v", s.Target, s.Window)
	}
}

// TestLiveSignals: SIGINT and SIGTERM end early, and what was sampled is written.
func TestLiveSignals(t *testing.T) {
	vm := busyVM(t)
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		r := startRecord(t, vm, "--duration", "10m")
		time.Sleep(500 * time.Millisecond) // some samples
		if err := r.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		r.Wait()
		if r.code() != 0 {
			t.Fatalf("%v: exit code %d: %s", signal, r.code(), &r.stderr)
		}
		if _, s := readBack(t, r.dir); s.Window.Ended != summary.EndedInterrupted {
			t.Errorf("%v: ended %q", signal, s.Window.Ended)
		}
	}
}

func TestLiveTargetExits(t *testing.T) {
	vm := busyVM(t)
	r := startRecord(t, vm, "--duration", "10m")
	time.Sleep(time.Second) // some samples
	vm.Stop(t)
	r.Wait()
	if r.code() != 0 {
		t.Fatalf("exit code %d: %s", r.code(), &r.stderr)
	}
	if _, s := readBack(t, r.dir); s.Window.Ended != summary.EndedTargetExited || s.CPU.Samples == 0 {
		t.Errorf("%+v", s.Window)
	}
}

func TestLivePSAndDoctor(t *testing.T) {
	vm := busyVM(t)
	stdout, _, code := execute(t, "ps")
	line := ""
	for l := range strings.Lines(stdout) {
		if fields := strings.Fields(l); len(fields) > 0 && fields[0] == strconv.Itoa(vm.PID) {
			line = l
		}
	}
	if code != 0 || !strings.Contains(line, vm.Node) || !strings.HasSuffix(line, "yes\n") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	stdout, stderr, code := execute(t, "doctor", "--pid", strconv.Itoa(vm.PID))
	if code != 0 {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
}
