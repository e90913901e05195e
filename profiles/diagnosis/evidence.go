package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// minSamples are needed to tell a share: its standard error is at most 7 points then.
const minSamples = 50

// evidence is what is known of all nodes, and what was found so far.
type evidence struct {
	nodes   []*summary.Summary
	seconds float64 // of the longest window
	hopping int     // client ids that were seen on more than one node
	found   []*finding
}

func newEvidence(nodes []*summary.Summary) *evidence {
	e := &evidence{nodes: nodes}
	homes := map[string]int{}
	for _, n := range nodes {
		e.seconds = max(e.seconds, n.Window.Duration)
		if n.Connections != nil {
			for _, c := range n.Connections.Clients {
				if homes[c.ID]++; homes[c.ID] == 2 {
					e.hopping++
				}
			}
		}
	}
	return e
}

// isLikely tells whether a cause was found likely.
func (e *evidence) isLikely(cause string) bool {
	return slices.ContainsFunc(e.found, func(f *finding) bool { return f.cause == cause && f.verdict == summary.VerdictLikely })
}

// on says of which node something is, if there are several.
func (e *evidence) on(n *summary.Summary) string {
	if len(e.nodes) < 2 {
		return ""
	}
	return text.Clean(n.Target.Node) + ": "
}

// cores returns how many cores a node used.
func cores(n *summary.Summary) float64 {
	if n.Window.Duration <= 0 {
		return 0
	}
	return max(n.CPU.ProcessSeconds, n.CPU.SampledSeconds) / n.Window.Duration
}

// cpu tells whether workloads have a node's work, and as figures how much of it.
func (e *evidence) cpu(c *attribution.Cause) (answer, []string) {
	least, share := c.Thresholds[attribution.Cores].At, c.Thresholds[attribution.Share].At
	best, figures := unknown, []string(nil)
	for _, n := range e.nodes {
		all := cores(n)
		switch {
		case len(c.Workloads) == 0 || n.Window.Duration <= 0:
			continue
		case all < least:
			best = max(best, no)
			figures = append(figures, fmt.Sprintf("%sthe VM uses %.2f cores in all", e.on(n), all))
			continue
		case n.CPU.Samples < minSamples || len(n.Workloads) == 0:
			continue
		}
		var seconds, part float64
		for _, w := range n.Workloads {
			if slices.Contains(c.Workloads, w.Name) {
				seconds += w.Seconds
				part += w.WithoutVM
			}
		}
		used := seconds / n.Window.Duration
		answer := no
		switch {
		case part >= share && used >= least:
			answer = yes
		case part >= share/2 && used >= least/2:
			answer = partly
		}
		best = max(best, answer)
		figures = append(figures, fmt.Sprintf("%s%.0f%% of the work is %s: %.2f of %.2f cores", e.on(n), 100*part, strings.Join(c.Workloads, " and "), used, all))
	}
	return best, figures
}

// logs returns how many lines of a cause's signals were written in the window,
// and what they were. known is false if no log was read.
func (e *evidence) logs(c *attribution.Cause) (lines uint64, known bool, figures []string) {
	for _, n := range e.nodes {
		if n.Logs == nil {
			continue
		}
		known = true
		for _, l := range n.Logs {
			if !slices.Contains(c.Signals, l.Signal) {
				continue
			}
			lines += l.InWindow
			figures = append(figures, e.on(n)+"log: "+lineFigure(n, l))
		}
	}
	return lines, known, figures
}

// lineFigure says how often a signal was written, and what the line says, by which
// people know it.
func lineFigure(n *summary.Summary, l summary.Log) string {
	figure := fmt.Sprintf("%s %d times", text.Clean(l.Signal), l.InWindow)
	if l.InWindow == 1 {
		figure = text.Clean(l.Signal) + " once"
	}
	if n.Window.Duration > 0 && l.InWindow > 0 {
		figure += fmt.Sprintf(" (%.1f/s)", float64(l.InWindow)/n.Window.Duration)
	}
	for _, all := range n.Logs {
		if l.Of != "" && all.Signal == l.Of {
			figure += fmt.Sprintf(", of %d %s", all.InWindow, text.Clean(l.Of))
		}
	}
	if before := l.Count - l.InWindow; before > 0 && l.Count >= l.InWindow {
		figure += fmt.Sprintf(", and %d before, since %s", before, l.First.UTC().Format("15:04"))
	}
	if l.Example != "" {
		figure += ": " + text.Clean(l.Example)
	}
	return figure
}

// repeating tells whether a node's exchanges repeat each other, and what part of
// all nodes' do; 1 if there are none. Each node is judged for itself: what repeats
// by chance, here and there, would become evidence if it were added up.
func (e *evidence) repeating(c *attribution.Cause) (empty bool, part float64) {
	var lines, all uint64
	for _, n := range e.nodes {
		repeating, of := repeatingOn(n, c)
		lines, all = lines+repeating, all+of
		empty = empty || float64(repeating) >= c.Thresholds[attribution.Lines].At && partOf(repeating, of) >= c.Thresholds[attribution.RepeatingPart].At
	}
	return empty, partOf(lines, all)
}

// repeatingOn returns how many lines of a node's log repeat the ones before, and of
// how many.
func repeatingOn(n *summary.Summary, c *attribution.Cause) (lines, all uint64) {
	of := map[string]bool{}
	for _, l := range n.Logs {
		if slices.Contains(c.Signals, l.Signal) {
			lines += l.InWindow
			of[l.Of] = true
		}
	}
	for _, l := range n.Logs {
		if of[l.Signal] {
			all += l.InWindow
		}
	}
	return lines, all
}

func partOf(lines, all uint64) float64 {
	if all == 0 {
		return 1
	}
	return float64(lines) / float64(all)
}

// surerOfNode says what one node's evidence cannot tell.
func (e *evidence) surerOfNode(surer []string, what string) []string {
	if len(e.nodes) > 1 {
		return surer
	}
	return append(surer, what+": record the others at the same time, and join them: beamprof report DIR1 DIR2")
}
