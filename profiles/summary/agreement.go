package summary

import (
	"fmt"
	"math"
)

// tolerance is how far sampled and accounted CPU time may be apart, as a part of the latter.
const tolerance = 0.03

// tickSeconds is the unit of /proc/PID/stat (USER_HZ is 100 on all of Linux).
// The window's two readings of user and of system time are each cut to it.
const tickSeconds = 0.01

// Agreement compares the sampled CPU time with the kernel's account of the
// process. It is what says whether the other numbers can be trusted.
type Agreement struct {
	OK         bool
	Known      bool    // the kernel's account is known
	Difference float64 // (sampled - accounted) / accounted
	Chance     bool    // not OK, but no more apart than chance explains
	Reason     string  // the likely reason if not OK, and what to do
}

// Agreement returns how well the samples agree with the kernel's account.
func (s *Summary) Agreement() Agreement {
	sampled, accounted := s.CPU.SampledSeconds, s.CPU.ProcessSeconds
	gap := sampled - accounted
	coarse := math.Abs(gap) <= s.samplingError()
	if !(accounted > 0) {
		if sampled == 0 || coarse {
			return Agreement{OK: true}
		}
		return Agreement{Reason: "the kernel's account of the process's CPU time could not be read"}
	}
	a := Agreement{Known: true, Difference: gap / accounted}
	switch {
	case math.Abs(a.Difference) <= tolerance:
		a.OK = true
	case coarse:
		a.Chance = true
		a.Reason = fmt.Sprintf("%d samples are too few to compare; record longer, or at a higher --frequency", s.CPU.Samples)
	case s.Window.Ended == EndedTargetExited:
		a.Reason = "the VM ended, and its CPU time was last read before that"
	case gap < 0 && s.lostSeconds() >= -gap/2:
		a.Reason = fmt.Sprintf("%d samples were lost; record at a lower --frequency", s.CPU.Lost)
	case gap < 0:
		a.Reason = "threads that run for microseconds at a time (the clock ticks late while threads are switched), CPUs that the hypervisor stalled (steal in top), or throttled perf events (sysctl kernel.perf_cpu_time_max_percent)"
	default:
		a.Reason = "the kernel's account fell short: the hypervisor stalled a CPU (steal in top), or time is accounted by timer ticks only"
	}
	return a
}

// samplingError returns the seconds that chance explains: three standard
// deviations of counting so many samples, and the ticks of the account.
func (s *Summary) samplingError() float64 {
	return 3*math.Sqrt(float64(s.CPU.Samples))*s.period() + 2*tickSeconds
}

func (s *Summary) lostSeconds() float64 { return float64(s.CPU.Lost) * s.period() }

func (s *Summary) period() float64 {
	if s.Window.Frequency < 1 {
		return 0
	}
	return 1 / float64(s.Window.Frequency)
}
