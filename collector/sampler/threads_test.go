package sampler

import (
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// A thread that ended before user space looked has the name that came with its
// sample; one that was given another name, or whose number is used again, the new one.
func TestThreadsThatEnded(t *testing.T) {
	const ended = 1 << 30 // no thread has that number
	threads := newThreads(&beam.Target{})
	for _, step := range []struct{ comm, want string }{
		{"beam.smp\x00\x00\x00\x00\x00\x00\x00\x00", "beam.smp"},
		{"nif_worker_12345", "nif_worker_12345"},
		{"", "nif_worker_12345"},
		{"other\x00worker_12345", "other"},
	} {
		got := threads.get(ended, []byte(step.comm))
		if got.Name != step.want || got.TID != ended || got.Kind != collector.ThreadNative {
			t.Errorf("%q: %+v", step.comm, got)
		}
		if again := threads.get(ended, []byte(step.comm)); again != got {
			t.Errorf("%q: another one at the next sample", step.comm)
		}
	}
	if got := threads.label(ended); got != threads.get(ended, nil).Label() {
		t.Errorf("its label is %q", got)
	}
	if got := threads.get(ended+1, nil); got.Name != "unknown" {
		t.Errorf("without a name: %+v", got)
	}
}
