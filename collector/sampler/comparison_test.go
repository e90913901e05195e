package sampler_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// seenBy counts what a profiler made of the samples of a scheduler.
type seenBy struct {
	samples, erlang, whole int
	executing              int  // samples while it ran a process; perf does not tell
	chained                bool // the load has a known chain
}

func (s *seenBy) add(names []string) {
	s.samples++
	if slices.ContainsFunc(names, isErlang) {
		s.erlang++
	}
	if holdsChain(names) {
		s.whole++
	}
}

func (s *seenBy) join(other seenBy) {
	s.samples += other.samples
	s.erlang += other.erlang
	s.whole += other.whole
	s.executing += other.executing
	s.chained = true
}

func (s seenBy) String() string {
	share := func(n int) float64 { return 100 * float64(n) / float64(max(1, s.samples)) }
	text := fmt.Sprintf("%5d samples, %5.1f%% with an Erlang function", s.samples, share(s.erlang))
	if s.chained {
		text += fmt.Sprintf(", %5.1f%% with the whole chain", share(s.whole))
	}
	if s.executing > 0 {
		text += fmt.Sprintf(", %5.1f%% while it ran a process", share(s.executing))
	}
	return text
}

// isErlang tells whether a frame is an Erlang function, and no fragment of the JIT's own.
func isErlang(name string) bool {
	return strings.Contains(name, ":") && strings.Contains(name, "/") && !strings.HasPrefix(name, "global::")
}

// holdsChain tells whether a stack, leaf first, ends with the callers of chain.erl.
func holdsChain(names []string) bool {
	want := []string{"chain:b/2", "chain:a/2", "chain:root/1"}
	at := slices.Index(names, want[0])
	return at >= 0 && slices.Equal(names[at:min(len(names), at+len(want))], want)
}

// TestBesidePerf profiles a VM with perf, for which it keeps frame pointers and
// names its code (+JPperf true), and then like any other: a scheduler that runs a
// process of a known chain, in JIT code, in a BIF, a NIF, a collection, a table, the
// kernel and messages, and one that runs through much of OTP.
func TestBesidePerf(t *testing.T) {
	testsupport.RequireBPF(t)
	perf := testsupport.RequireCommand(t, "perf", "linux-perf")
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "1", "+sbwt", "none", "+JPperf", "true"},
		Modules: map[string]string{"chain": chainSource, "mixed": mixedSource},
	})
	source := filepath.Join(vm.Dir, "mixed.erl")
	if err := os.WriteFile(source, []byte(mixedSource), 0o644); err != nil {
		t.Fatal(err)
	}
	var theirs, ours seenBy
	for _, kind := range []string{"jit", "bif", "nif", "gc", "ets", "syscall", "copy"} {
		vm.Eval(t, "put(chain, chain:start("+kind+"))")
		time.Sleep(200 * time.Millisecond)
		a, b := besidePerf(t, perf, vm, kind, true)
		vm.Eval(t, "exit(get(chain), kill)")
		theirs.join(a)
		ours.join(b)
	}
	logBeside(t, "all of these", theirs, ours)
	if ours.samples < 500 || theirs.samples < 500 {
		t.Fatalf("too few samples to compare")
	}
	// A scheduler also schedules, asks for I/O and waits, the more so if others want
	// its CPU. Then there is no process whose chain could be seen.
	if float64(ours.whole) < 0.99*float64(ours.executing) {
		t.Errorf("only %d of %d samples of a scheduler that runs the process hold the whole chain", ours.whole, ours.executing)
	}
	if ours.whole*theirs.samples < theirs.whole*ours.samples {
		t.Errorf("perf sees more: %v, %v", theirs, ours)
	}
	vm.Eval(t, "mixed:start(\""+source+"\")")
	time.Sleep(200 * time.Millisecond)
	besidePerf(t, perf, vm, "much of OTP", false)
}

// besidePerf profiles a VM with both, one after the other, at perf's usual frequency.
func besidePerf(t *testing.T, perf string, vm *testsupport.VM, load string, chained bool) (theirs, ours seenBy) {
	t.Helper()
	const frequency, duration = 99, 1500 * time.Millisecond
	theirs = perfStacks(t, perf, vm, frequency, duration)
	samples, _ := profile(t, vm, frequency, duration)
	for _, s := range samples {
		if s.Thread.Kind == collector.ThreadScheduler || s.Thread.Kind == collector.ThreadDirtyCPU {
			ours.add(s.names())
			if executes(s) {
				ours.executing++
			}
		}
	}
	theirs.chained, ours.chained = chained, chained
	logBeside(t, load, theirs, ours)
	return theirs, ours
}

// executes tells whether a scheduler ran a process: it says which, or it did what
// is done for processes only.
func executes(s captured) bool {
	switch s.State {
	case collector.StateScheduling, collector.StateCheckIO, collector.StateBusyWait, collector.StateSleepWake, collector.StateAux, collector.StateOther:
		return s.Process != nil
	}
	return true
}

func logBeside(t *testing.T, load string, theirs, ours seenBy) {
	t.Helper()
	t.Logf("%-12s perf record -F 99 -g: %s", load, theirs)
	t.Logf("%-12s beamprof:             %s", load, ours)
}

// perfStacks profiles a VM with perf and returns what it saw of the schedulers;
// large processes are collected on dirty ones.
func perfStacks(t *testing.T, perf string, vm *testsupport.VM, frequency int, duration time.Duration) (seen seenBy) {
	t.Helper()
	data := filepath.Join(t.TempDir(), "perf.data")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute+duration)
	defer cancel()
	record := exec.CommandContext(ctx, perf, "record", "-q", "-N", "-e", "cpu-clock", "-F", fmt.Sprint(frequency), "-g",
		"-p", fmt.Sprint(vm.PID), "-o", data, "--", "sleep", fmt.Sprint(duration.Seconds()))
	record.Env = append(os.Environ(), "HOME="+t.TempDir())
	if out, err := record.CombinedOutput(); err != nil {
		t.Fatalf("perf record: %v: %s", err, out)
	}
	script := exec.CommandContext(ctx, perf, "script", "-i", data, "-F", "comm,tid,ip,sym")
	script.Env = append(os.Environ(), "PERF_PAGER=cat")
	out, err := script.Output()
	if err != nil {
		t.Fatalf("perf script: %v", err)
	}
	for event := range strings.SplitSeq(string(out), "\n\n") {
		lines := strings.Split(strings.TrimSpace(event), "\n")
		if !strings.Contains(lines[0], "_scheduler") && !strings.Contains(lines[0], "_dirty_cpu") {
			continue
		}
		var names []string
		for _, line := range lines[1:] {
			if fields := strings.Fields(line); len(fields) > 1 {
				names = append(names, strings.TrimPrefix(fields[1], "$"))
			}
		}
		seen.add(names)
	}
	return seen
}
