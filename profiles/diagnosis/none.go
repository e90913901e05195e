package diagnosis

import (
	"fmt"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// none judges what is left: it is as likely as the others are unlikely. That
// schedulers spin between short pieces of work is no trouble, unless it is likely
// to be what the CPU is used for.
func none(e *evidence, c *attribution.Cause) *finding {
	f := &finding{verdict: summary.VerdictLikely}
	idle := true
	for _, n := range e.nodes {
		switch all := cores(n); {
		case n.Window.Duration <= 0:
			idle = false
		case all < c.Thresholds[attribution.Cores].At:
			f.evidence = append(f.evidence, fmt.Sprintf("%sthe VM is idle: %.2f cores", e.on(n), all))
		default:
			idle = false
			if n.CPU.Samples < minSamples || len(n.Workloads) == 0 {
				continue
			}
			if top := n.Workloads[0]; top.Name != attribution.VM && top.Name != attribution.Unattributed {
				f.evidence = append(f.evidence, fmt.Sprintf("%sthe most work is %s: %.0f%%", e.on(n), top.Name, 100*top.WithoutVM))
			}
		}
	}
	for _, other := range e.found {
		switch {
		case other.verdict == summary.VerdictLikely:
			f.verdict = summary.VerdictUnlikely
		case f.verdict == summary.VerdictUnlikely, other.cause == attribution.BusyWait && (idle || other.verdict == summary.VerdictPossible):
		case other.verdict == summary.VerdictPossible:
			f.verdict = summary.VerdictPossible
		case other.verdict == summary.VerdictUnknown && f.verdict == summary.VerdictLikely:
			f.verdict = summary.VerdictUnknown
		}
	}
	return f
}
