package sampler

import (
	"fmt"
	"time"

	"github.com/prometheus/procfs"

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

	ProcessSeconds float64 // CPU time of the process over the same window (/proc/PID/stat)
}

// SampledSeconds returns the CPU time the samples stand for.
func (s Stats) SampledSeconds() float64 {
	if s.Frequency == 0 {
		return 0
	}
	return float64(s.Samples) / float64(s.Frequency)
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

// processTimes are what /proc/PID/stat says of a process.
type processTimes struct {
	cpu     float64 // user and system time, in seconds
	started uint64  // start time in ticks since boot: tells a reused pid
}

func readProcessTimes(pid int) (processTimes, error) {
	process, err := procfs.NewProc(pid)
	if err != nil {
		return processTimes{}, fmt.Errorf("process %d: %w", pid, err)
	}
	stat, err := process.Stat()
	if err != nil {
		return processTimes{}, fmt.Errorf("process %d: %w", pid, err)
	}
	if stat.State == "Z" || stat.State == "X" {
		return processTimes{}, fmt.Errorf("process %d has ended", pid)
	}
	return processTimes{cpu: stat.CPUTime(), started: stat.Starttime}, nil
}
