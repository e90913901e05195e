package diagnosis

import (
	"fmt"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// inconsistent judges inconsistent state: exchanges use the CPU, and what they
// fetch does not stay. Only the node that fetches writes about an exchange.
func inconsistent(e *evidence, c *attribution.Cause) *finding {
	cpu, figures := e.cpu(c)
	lines, known, said := e.logs(c)
	f := &finding{evidence: append(figures, said...)}
	empty, part := e.repeating(c)
	switch {
	case empty && cpu == yes:
		f.verdict = summary.VerdictLikely
	case empty || cpu == yes:
		f.verdict = summary.VerdictPossible
	case cpu == unknown && !known:
		f.verdict = summary.VerdictUnknown
	case cpu == partly && !known:
		f.verdict = summary.VerdictPossible
	default:
		f.verdict = summary.VerdictUnlikely
	}
	switch {
	case known && lines == 0:
		f.evidence = append(f.evidence, "log: no exchange that repeats the ones before it")
	case known && !empty:
		f.evidence = append(f.evidence, fmt.Sprintf("log: only %.0f%% of the exchanges repeat the ones before them", 100*part))
	}
	if f.verdict == summary.VerdictLikely && e.isLikely(attribution.ConnectionStorm) {
		f.first = "End the storm first, and record again: what its clients leave behind is fetched by exchanges as well."
	}
	if f.verdict != summary.VerdictPossible && f.verdict != summary.VerdictUnknown {
		return f
	}
	if !known {
		f.surer = append(f.surer, "no log was read, which would say whether exchanges repeat each other: name it with --log FILE")
	}
	switch {
	case !empty && cpu == yes:
		f.evidence = append(f.evidence, "a node that catches up after it was away does the same, and ends by itself")
		f.surer = e.surerOfNode(f.surer, "only the node that fetches writes about an exchange")
		f.surer = append(f.surer, "record again in ten minutes: has it ended?")
	case cpu == unknown:
		f.surer = append(f.surer, tooFew)
	}
	return f
}

const tooFew = "there are too few samples to tell shares: record longer, or at a higher --frequency"
