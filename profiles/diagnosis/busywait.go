package diagnosis

import (
	"fmt"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// busyWait judges spinning schedulers. They spin between short pieces of work as
// well, so that it is no more than possible where another cause is likely.
func busyWait(e *evidence, c *attribution.Cause) *finding {
	f := &finding{}
	best := unknown
	for _, n := range e.nodes {
		all, least := cores(n), c.Thresholds[attribution.Cores].At
		switch {
		case n.Window.Duration <= 0:
			continue
		case all < least:
			best = max(best, no)
			f.evidence = append(f.evidence, fmt.Sprintf("%sthe VM uses %.2f cores in all", e.on(n), all))
			continue
		case n.CPU.Samples < minSamples:
			continue
		}
		var spinning summary.Part
		for _, s := range n.States {
			if s.Name == "busy_wait" {
				spinning = s
			}
		}
		used := spinning.Seconds / n.Window.Duration
		answer := no
		switch {
		case used < least:
		case spinning.Share >= c.Thresholds[attribution.Share].At:
			answer = yes
		case spinning.Share >= c.Thresholds[attribution.SomeShare].At:
			answer = partly
		}
		best = max(best, answer)
		f.evidence = append(f.evidence, fmt.Sprintf("%sschedulers spin for %.0f%% of the CPU time, %.2f of %.2f cores", e.on(n), 100*spinning.Share, used, all))
	}
	caused := false
	for _, other := range e.found {
		caused = caused || other.verdict == summary.VerdictLikely
	}
	f.verdict = [...]string{unknown: summary.VerdictUnknown, no: summary.VerdictUnlikely, partly: summary.VerdictPossible, yes: summary.VerdictLikely}[best]
	switch {
	case best == yes && caused:
		f.verdict = summary.VerdictPossible
		f.evidence = append(f.evidence, "it comes with the load: schedulers spin between short pieces of work")
	case best == partly && caused:
		f.verdict = summary.VerdictUnlikely
	case best == unknown:
		f.surer = append(f.surer, tooFew)
	}
	return f
}
