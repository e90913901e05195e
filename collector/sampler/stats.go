package sampler

import (
	"time"

	"github.com/beamprof/beamprof/collector"
)

// Stats are the counts of a session: nothing is lost silently.
type Stats struct {
	Start     time.Time
	Duration  time.Duration
	Frequency int // Hz

	Samples            uint64 // samples handled
	Lost               uint64 // ticks on the target of which no sample arrived
	Malformed          uint64 // records that could not be read
	Truncated          uint64 // samples of stacks too deep to be copied whole
	Partial            uint64 // samples whose unwinding ended early
	UnsymbolizedFrames uint64 // frames without a name, in all samples
	CodeErrors         uint64 // looks at the list of JIT code that failed
	MapErrors          uint64 // looks at the target's mappings that failed
	KernelNames        error  // why kernel frames have no names, or nil

	ProcessSeconds float64            // CPU time of the process over the same window (/proc/PID/stat)
	ThreadSeconds  map[string]float64 // the same by label `thread` (schedstat); nil if not known
	ThreadSamples  map[string]uint64  // samples by label `thread`
}

// SampledSeconds returns the CPU time the samples stand for.
func (s Stats) SampledSeconds() float64 {
	if s.Frequency == 0 {
		return 0
	}
	return float64(s.Samples) / float64(s.Frequency)
}

// Weights returns, by the value of the label `thread`, what the kernel's account
// of these threads is of the CPU time that their samples stand for. It is nil if
// there is no account: the VM ended, or the kernel keeps none.
func (s Stats) Weights() map[string]float64 {
	if s.ThreadSeconds == nil {
		return nil
	}
	weights := make(map[string]float64, len(s.ThreadSamples))
	for label, samples := range s.ThreadSamples {
		weights[label] = s.ThreadSeconds[label] * float64(s.Frequency) / float64(samples)
	}
	return weights
}

func (s *Stats) add(sample *collector.Sample) {
	s.Samples++
	if sample.Truncated {
		s.Truncated++
	}
	if sample.Partial {
		s.Partial++
	}
	for _, f := range sample.Stack {
		if !f.Resolved && f.Kind != collector.FrameKernel {
			s.UnsymbolizedFrames++
		}
	}
}
