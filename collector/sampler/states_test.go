package sampler_test

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/states.erl
var statesSource string

// accounted are the states of the VM's own microstate accounting that our states
// belong to (erts/emulator/beam/erl_msacc.h: without the extra states, calls of
// BIFs and NIFs are part of emulator, and waiting for work and timers of other).
// Scheduling is what it is part of: see outer.
var accounted = map[collector.State]string{
	collector.StateEmulator: "emulator", collector.StateBIF: "emulator", collector.StateNIF: "emulator",
	collector.StateGC: "gc", collector.StatePort: "port", collector.StateCheckIO: "check_io", collector.StateAux: "aux",
	collector.StateBusyWait: "other", collector.StateOther: "other",
	collector.StateSleepWake: "sleep",
}

// byThread are seconds by kind of thread and state of microstate accounting; in
// the VM's own the state "threads" is the number of threads instead.
type byThread map[string]map[string]float64

func (b byThread) add(thread, state string, seconds float64) {
	if b[thread] == nil {
		b[thread] = map[string]float64{}
	}
	b[thread][state] += seconds
}

// awake returns the time that a kind of thread did not sleep.
func (b byThread) awake(thread string) (sum float64) {
	for state, seconds := range b[thread] {
		if state != "sleep" && state != "threads" {
			sum += seconds
		}
	}
	return sum
}

// The VM accounts for time by the clock, the samples stand for time on a CPU.
// They can be compared if other processes took next to none of it away: then
// both find the same share of their windows awake, up to this difference and
// what samples of a mostly idle thread scatter.
const calm, scatter = 0.05, 0.02

// TestStates compares the states of samples with microstate accounting in the
// same run: each state's share of the time not slept.
func TestStates(t *testing.T) {
	testsupport.RequireBPF(t)
	one := []string{"+S", "1"}
	// A scheduler that polls for I/O does not spin, so it takes two.
	two := []string{"+S", "2", "+sbwt", "very_long"}
	flags := map[string][]string{"cpu": one, "gc": one, "mixed": one, "socket": one, "idle": two}
	for _, load := range []string{"cpu", "gc", "mixed", "socket", "idle"} {
		t.Run(load, func(t *testing.T) {
			vm := testsupport.StartVM(t, testsupport.Options{
				Flags:   flags[load],
				Modules: map[string]string{"states": statesSource},
				Eval:    "P = states:start(" + load + ")",
			})
			different := 0
			for range 5 {
				ours, truth, window := accountedProfile(t, vm)
				compared, off := compareStates(t, ours, truth, window)
				if compared && len(off) == 0 {
					return
				}
				// Others that ran for a part of the window may be the reason, once.
				if different += len(off); compared && different > len(off) {
					t.Errorf("twice: %s", strings.Join(off, "; "))
					return
				}
			}
			t.Skip("SKIP: other processes keep the CPUs busy, so time by the clock says nothing of time on a CPU")
		})
	}
}

// accountedProfile samples a VM while it accounts for its states itself. window
// is how long it was sampled, in seconds; it accounts a little longer.
func accountedProfile(t *testing.T, vm *testsupport.VM) (ours, truth byThread, window float64) {
	t.Helper()
	ours, truth = byThread{}, byThread{}
	vm.Eval(t, "states:account()")
	samples, stats := profile(t, vm, 997, 3*time.Second)
	for line := range strings.Lines(string(vm.EvalBytes(t, "states:accounted(x)"))) {
		var thread, state string
		var microseconds float64
		if _, err := fmt.Sscan(line, &thread, &state, &microseconds); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		truth.add(strings.TrimSuffix(thread, "_scheduler"), state, microseconds/1e6)
	}
	for _, s := range samples {
		thread, state, seconds := s.Thread.Kind.String(), accounted[s.State], 1/float64(stats.Frequency)
		if s.State == collector.StateScheduling {
			state = outer(s)
		}
		if readsClock(s) {
			seconds /= 2
			ours.add(thread, outer(s), seconds)
		}
		ours.add(thread, state, seconds)
	}
	return ours, truth, stats.Duration.Seconds()
}

// readsClock tells whether a sample is of the accounting itself, which takes some
// percent of a VM that changes its state all the time: it reads the clock where a
// state begins and where it ends, and half of that falls on each side.
func readsClock(s captured) bool {
	return slices.ContainsFunc(s.stack, func(f *collector.Frame) bool { return f.Function == "erts_sys_hrtime" })
}

// outer returns the state that a thread is in but for the one inside of it: emulator
// while it has a process, also one on its way in or out (erts_schedule in
// erl_process.c, OTP 25).
func outer(s captured) string {
	if s.Process != nil {
		return "emulator"
	}
	return "other"
}

// compareStates compares shares of the time not slept, for kinds of threads that
// were awake for a noticeable time. It reports whether there was one to compare,
// and the states that are off.
func compareStates(t *testing.T, ours, truth byThread, window float64) (compared bool, off []string) {
	t.Helper()
	for thread := range ours {
		a, b := ours.awake(thread), truth.awake(thread)
		if a < 0.3 {
			continue
		}
		threads := truth[thread]["threads"]
		sampled, accountedFor := a/window, threads*b/(b+truth[thread]["sleep"])
		if math.Abs(sampled-accountedFor) > calm*accountedFor+scatter*threads {
			t.Logf("%s: awake for %.1f%% of the time by samples, %.1f%% by the VM: other processes were running", thread, 100*sampled, 100*accountedFor)
			continue
		}
		compared = true
		for _, state := range []string{"emulator", "gc", "port", "check_io", "aux", "other"} {
			x, y := ours[thread][state]/a, truth[thread][state]/b
			t.Logf("%s %-8s sampled %5.1f%% of %.2f s, accounted %5.1f%% of %.2f s", thread, state, 100*x, a, 100*y, b)
			if math.Abs(x-y) > 0.03 {
				off = append(off, fmt.Sprintf("%s: %s has %.1f%% of the samples and %.1f%% by microstate accounting", thread, state, 100*x, 100*y))
			}
		}
	}
	return compared, off
}
