package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

func TestAgentChecksItsConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sampling: {frequency: 49}\n")
	if stdout, _, code := execute(t, "agent", "--config", path, "--check"); code != exitOK || stdout != path+": ok\n" {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	if stdout, _, code := execute(t, "config", "print", "--config", path); code != exitOK || !strings.Contains(stdout, "  frequency: 49\n  window: 15s\n") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	write("sampling:\n  rate: 49\n")
	for _, args := range [][]string{{"agent", "--config", path, "--check"}, {"agent", "--config", path}, {"config", "print", "--config", path}} {
		if _, stderr, code := execute(t, args...); code == exitOK || !strings.Contains(stderr, path+":2: unknown key rate") {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	for _, args := range [][]string{{"agent"}, {"config"}, {"config", "show"}, {"agent", "--config", path, "more"}} {
		if _, stderr, code := execute(t, args...); code != exitUsage {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
}

// TestLiveAgentKilled: SIGKILL leaves nothing in the kernel, and no file that is
// not whole; what was there is taken up by the next agent.
func TestLiveAgentKilled(t *testing.T) {
	vm := busyVM(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("sampling: {window: 1s, profile: 1s}\ntargets: {commands: ['.*%s .*']}\nspool: %s/spool\nhttp: {listen: ''}\n"+
		"sinks: [{name: local, type: directory, directory: {path: %s/profiles}}]\n", vm.Dir, dir, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		before := len(names(t, filepath.Join(dir, "profiles")))
		cmd := exec.Command(binary, "agent", "--config", config)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); len(names(t, filepath.Join(dir, "profiles"))) <= before; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				cmd.Process.Kill()
				cmd.Wait()
				t.Fatalf("no profile: %s", stderr.String())
			}
		}
		programs := programsOf(cmd.Process.Pid)
		if len(programs) == 0 {
			t.Error("no BPF program is loaded while it profiles")
		}
		cmd.Process.Kill()
		cmd.Wait()
		for _, id := range programs {
			gone := false
			for range 100 {
				program, err := ebpf.NewProgramFromID(id)
				if gone = errors.Is(err, os.ErrNotExist); gone {
					break
				}
				if err == nil {
					program.Close()
				}
				time.Sleep(50 * time.Millisecond)
			}
			if !gone {
				t.Errorf("the program with id %d is still in the kernel", id)
			}
		}
	}
}

// programsOf returns the ids of the BPF programs that a process has.
func programsOf(pid int) []ebpf.ProgramID {
	var ids []ebpf.ProgramID
	infos, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, name := range infos {
		text, _ := os.ReadFile(name)
		_, rest, ok := strings.Cut(string(text), "\nprog_id:")
		if !ok {
			continue
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest), "\n")
		if id, err := strconv.ParseUint(value, 10, 32); err == nil {
			ids = append(ids, ebpf.ProgramID(id))
		}
	}
	return ids
}
