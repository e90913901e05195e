package diagnosis

import (
	"fmt"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// busyWait judges spinning schedulers. They spin between short pieces of work as
// well, so that it is no more than possible where another cause is likely.
func busyWait(e *evidence, c *attribution.Cause) *finding {
	f := &finding{spinning: true}
	best := unknown
	for _, n := range e.nodes {
		if n.Window.Duration > 0 {
			answer, figure := spinsOn(n, c)
			best = max(best, answer)
			f.evidence = append(f.evidence, e.on(n)+figure)
		}
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

// fewSamples are enough for what little an idle VM does: the standard error is
// at most 11 points.
const fewSamples = 20

// spinsOn tells whether a node's schedulers spin for much of its CPU time. Of
// what an idle VM uses, less of it tells already where it is the largest part.
func spinsOn(n *summary.Summary, c *attribution.Cause) (answer, string) {
	all := cores(n)
	idle := all < c.Thresholds[attribution.Cores].At
	var spin summary.Part
	for _, s := range n.States {
		if s.Name == "busy_wait" {
			spin = s
		}
	}
	most, some := c.Thresholds[attribution.Share].At, c.Thresholds[attribution.SomeShare].At
	figure := fmt.Sprintf("schedulers spin for %.0f%% of the CPU time, %.2f of %.2f cores", 100*spin.Share, spin.Seconds/n.Window.Duration, all)
	switch {
	case idle && n.CPU.Samples < fewSamples:
		return no, fmt.Sprintf("the VM is idle: %.2f cores, too little to tell what for", all)
	case !idle && n.CPU.Samples < minSamples:
		return unknown, fmt.Sprintf("%d samples are too few to tell", n.CPU.Samples)
	case spin.Share >= most, idle && spin.Share >= some && n.States[0].Name == spin.Name:
		return yes, figure
	case spin.Share >= some, idle && spin.Share >= some/2 && n.States[0].Name == spin.Name:
		return partly, figure
	}
	return no, figure
}
