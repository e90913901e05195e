package sampler_test

import (
	"slices"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// TestStaticFunctionsHaveNames: the functions that tell the emulator's states
// apart are shown by name, also if the emulator is stripped.
func TestStaticFunctionsHaveNames(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"+S", "2", "+sbwt", "very_long"},
		Eval:  "F = fun F() -> receive after 1 -> F() end end, spawn(F)",
	})
	samples, _ := profile(t, vm, 999, 2*time.Second)
	spinning, named := 0, 0
	for _, s := range samples {
		if s.State == collector.StateBusyWait {
			spinning++
			if slices.Contains(s.names(), "scheduler_wait") {
				named++
			}
		}
	}
	t.Logf("of %d samples %d are of schedulers that wait, %d of these in scheduler_wait", len(samples), spinning, named)
	if spinning == 0 || named != spinning {
		t.Error("schedulers wait in a function without a name")
	}
}
