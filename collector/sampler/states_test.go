package sampler_test

import (
	_ "embed"
	"fmt"
	"math"
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
// BIFs and NIFs are part of emulator, and scheduling, waiting for work and timers
// of other).
var accounted = map[collector.State]string{
	collector.StateEmulator: "emulator", collector.StateBIF: "emulator", collector.StateNIF: "emulator",
	collector.StateGC: "gc", collector.StatePort: "port", collector.StateCheckIO: "check_io", collector.StateAux: "aux",
	collector.StateScheduling: "other", collector.StateBusyWait: "other", collector.StateOther: "other",
	collector.StateSleepWake: "sleep",
}

// TestStates compares the states of samples with microstate accounting in the
// same run: each state's share of the time not slept.
func TestStates(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, load := range []string{"cpu", "gc", "mixed", "socket", "idle"} {
		t.Run(load, func(t *testing.T) {
			vm := testsupport.StartVM(t, testsupport.Options{
				Flags:   []string{"+S", "2"},
				Modules: map[string]string{"states": statesSource},
				Eval:    "P = states:start(" + load + ")",
			})
			time.Sleep(200 * time.Millisecond)
			vm.Eval(t, "states:account()")
			samples, stats := profile(t, vm, 997, 4*time.Second)
			truth := map[string]map[string]float64{}
			for line := range strings.Lines(string(vm.EvalBytes(t, "states:accounted(x)"))) {
				var thread, state string
				var microseconds float64
				if _, err := fmt.Sscan(line, &thread, &state, &microseconds); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				if truth[thread] == nil {
					truth[thread] = map[string]float64{}
				}
				truth[thread][state] += microseconds / 1e6
			}
			ours := map[string]map[string]float64{}
			detail := map[string]float64{}
			for _, s := range samples {
				thread := s.Thread.Kind.String()
				if strings.HasPrefix(thread, "dirty_") {
					thread += "_scheduler"
				}
				if ours[thread] == nil {
					ours[thread] = map[string]float64{}
				}
				ours[thread][accounted[s.State]] += 1 / float64(stats.Frequency)
				detail[thread+" "+s.State.String()] += 1 / float64(stats.Frequency)
			}
			t.Logf("in detail: %.3v", detail)
			for thread := range ours {
				compareStates(t, thread, ours[thread], truth[thread])
			}
		})
	}
}

// compareStates compares shares of the time not slept, for threads that were
// awake for a noticeable time.
func compareStates(t *testing.T, thread string, ours, truth map[string]float64) {
	t.Helper()
	awake := func(m map[string]float64) (sum float64) {
		for state, seconds := range m {
			if state != "sleep" {
				sum += seconds
			}
		}
		return sum
	}
	a, b := awake(ours), awake(truth)
	if a < 0.1 {
		return
	}
	for _, state := range []string{"emulator", "gc", "port", "check_io", "aux", "other"} {
		x, y := ours[state]/a, truth[state]/b
		t.Logf("%s %-8s sampled %5.1f%% of %.2f s, accounted %5.1f%% of %.2f s", thread, state, 100*x, a, 100*y, b)
		if math.Abs(x-y) > 0.03 {
			t.Errorf("%s: %s has %.1f%% of the samples and %.1f%% by microstate accounting", thread, state, 100*x, 100*y)
		}
	}
}
