package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// TestSoak runs an agent for as long as BEAMPROF_SOAK says, with code that is
// loaded again and again, a VM that is started again, and a back end that is out
// of order half of the time. Its figures, one line a minute, go to the file that
// BEAMPROF_SOAK_FIGURES names. See scripts/soak.
func TestSoak(t *testing.T) {
	duration, err := time.ParseDuration(os.Getenv("BEAMPROF_SOAK"))
	if err != nil {
		t.Skip("SKIP: BEAMPROF_SOAK does not say for how long")
	}
	testsupport.RequireBPF(t)
	figures, err := os.Create(os.Getenv("BEAMPROF_SOAK_FIGURES"))
	if err != nil {
		t.Fatal(err)
	}
	defer figures.Close()

	var down atomic.Bool
	var taken, refused atomic.Uint64
	backEnd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if down.Load() {
			refused.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		taken.Add(1)
	}))
	defer backEnd.Close()

	stays := soakVM(t, "soak_stays")
	comes := soakVM(t, "soak_comes")
	dir := t.TempDir()
	config := filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf("targets: {nodes: ['soak_.*']}\nspool: %s/spool\nhttp: {listen: ''}\nsinks:\n- {name: files, type: directory, directory: {path: %s/profiles}}\n- {name: remote, type: http, url: '%s'}\n",
		dir, dir, backEnd.URL)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "agent", "--config", config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
	}()

	fmt.Fprintln(figures, "seconds,cpu_percent,resident_mib,open_files,profiles_taken,requests_refused")
	start, last, reloads := time.Now(), 0.0, 0
	measured := start
	for minute := 1; time.Since(start) < duration; minute++ {
		for range 12 { // five seconds each
			time.Sleep(5 * time.Second)
			reloads++
			stays.LoadModule(t, "reloaded", fmt.Sprintf("-module(reloaded). -export([run/0]). run() -> lists:sum(lists:seq(1, %d)).", 1000+reloads))
			stays.Eval(t, "reloaded:run()")
		}
		down.Store(minute/3%2 == 1) // three minutes each
		if minute%4 == 0 {
			comes.Stop(t)
			comes = soakVM(t, "soak_comes")
		}
		process, err := procfs.NewProc(cmd.Process.Pid)
		if err != nil {
			t.Fatal("the agent has ended")
		}
		stat, err := process.Stat()
		if err != nil || stat.State == "Z" {
			t.Fatalf("the agent has ended: %v", err)
		}
		files, _ := process.FileDescriptorsLen()
		now := time.Now() // compiling takes its time: more than a minute later
		fmt.Fprintf(figures, "%.0f,%.3f,%.1f,%d,%d,%d\n", now.Sub(start).Seconds(), 100*(stat.CPUTime()-last)/now.Sub(measured).Seconds(),
			float64(stat.ResidentMemory())/(1<<20), files, taken.Load(), refused.Load())
		last, measured = stat.CPUTime(), now
	}
	if taken.Load() == 0 {
		t.Error("the back end got nothing")
	}
}

// soakVM starts a VM that works a little, all the time.
func soakVM(t *testing.T, name string) *testsupport.VM {
	return testsupport.StartVM(t, testsupport.Options{
		Name: name, Flags: []string{"+S", "1", "+sbwt", "none"},
		Eval: "[spawn(fun() -> (fun F() -> timer:sleep(20), lists:sum(lists:seq(1, 20000)), F() end)() end) || _ <- lists:seq(1, 10)], ok",
	})
}
