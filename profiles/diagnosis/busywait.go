package diagnosis

import (
	"fmt"
	"math"
	"slices"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// busyWait judges spinning schedulers. They spin between short pieces of work as
// well, so that it is no more than possible where another cause is likely.
func busyWait(e *evidence, c *attribution.Cause) *finding {
	f := &finding{}
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

// longer are the values of +sbwt by which schedulers spin for ten times as long as
// usual, and more (erl_process.c, 23 to 27).
var longer = []string{"long", "very_long"}

// spinsOn tells whether a node's schedulers spin for much of its CPU time. A third
// to a half of the little that an idle VM uses is spinning: that is trouble only
// where the VM was told to spin for long.
func spinsOn(n *summary.Summary, c *attribution.Cause) (answer, string) {
	all := cores(n)
	idle := all < c.Thresholds[attribution.Cores].At
	long := slices.Contains(longer, n.Target.BusyWait)
	spin, work := spinAndWork(n)
	most, some := c.Thresholds[attribution.Share].At, c.Thresholds[attribution.SomeShare].At
	figure := fmt.Sprintf("schedulers spin for %.0f%% of the CPU time, %.2f of %.2f cores", 100*spin.Share, spin.Seconds/n.Window.Duration, all)
	if long {
		figure += fmt.Sprintf("; the VM was started with +sbwt %s, longer than usual", n.Target.BusyWait)
	}
	switch {
	case idle && long && (n.CPU.Samples < minSamples || atMost(spin.Share, n.CPU.Samples) >= some/2):
		return yes, figure
	case idle && n.CPU.Samples < fewSamples:
		return no, fmt.Sprintf("the VM is idle: %.2f cores, too little to tell what for", all)
	case !idle && n.CPU.Samples < minSamples:
		return unknown, fmt.Sprintf("%d samples are too few to tell", n.CPU.Samples)
	case !idle && spin.Share >= most, long && spin.Share >= work:
		return yes, figure
	case !idle && n.Target.BusyWait != "" && !long:
		// It spins as every VM does between short pieces of work, and for less than half of the time.
		return no, figure
	case spin.Share >= some, idle && spin.Share >= some/2 && n.States[0].Name == spin.Name:
		return partly, figure
	}
	return no, figure
}

// fewSamples are enough for what little an idle VM does: the standard error is
// at most 11 points.
const fewSamples = 20

// spinAndWork returns a node's spinning, and the share of all work.
func spinAndWork(n *summary.Summary) (spin summary.Part, work float64) {
	for _, s := range n.States {
		if s.Name == "busy_wait" {
			spin = s
		}
	}
	for _, w := range n.Workloads {
		if w.Name != attribution.VM {
			work += w.Share
		}
	}
	return spin, work
}

// atMost returns how large a share may really be of which so many samples tell:
// the upper end of its 95 % interval (Agresti and Coull, 1998).
func atMost(share float64, samples uint64) float64 {
	n := float64(samples) + 4
	p := (share*float64(samples) + 2) / n
	return min(1, p+2*math.Sqrt(max(0, p*(1-p))/n))
}
