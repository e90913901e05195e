package sampler_test

import (
	"math"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// TestWeightsGiveTheKernelsAccount: threads that run for a few microseconds at a
// time get too few samples; weighted they have the time that the kernel counted.
func TestWeightsGiveTheKernelsAccount(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"+S", "2", "+sbwt", "none"},
		Eval:  "F = fun F() -> receive after 1 -> lists:seq(1, 200), F() end end, [spawn(F) || _ <- lists:seq(1, 50)]",
	})
	samples, stats := profile(t, vm, 999, 3*time.Second)
	var weighted float64
	for label, weight := range stats.Weights() {
		weighted += weight * float64(stats.ThreadSamples[label]) / float64(stats.Frequency)
	}
	t.Logf("%d samples: sampled %.3f s, weighted %.3f s, the kernel counted %.3f s", len(samples), stats.SampledSeconds(), weighted, stats.ProcessSeconds)
	// The kernel counts the process in ticks of 10 ms, user and system each.
	if len(samples) == 0 || math.Abs(weighted-stats.ProcessSeconds) > 0.02*stats.ProcessSeconds+0.02 {
		t.Error("the weighted samples do not agree with the kernel's account")
	}
}
