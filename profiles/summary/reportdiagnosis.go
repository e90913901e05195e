package summary

import (
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// How many lines of a cause's paragraphs there are at most.
const (
	maxEvidence = 5
	maxAdvice   = 3
	maxSurer    = 2
)

// verdictWidth is the width of the column of verdicts.
const verdictWidth = len("possible") + 2

// diagnosis prints the verdicts: what is likely or possible with its evidence
// and what to do, the rest in a line each.
func (r *report) diagnosis() {
	if len(r.Diagnosis) == 0 {
		return
	}
	r.heading("DIAGNOSIS", "")
	for _, d := range r.Diagnosis {
		code := ansiDim
		switch d.Verdict {
		case VerdictLikely:
			code = ansiRed
		case VerdictPossible:
			code = ansiYellow
		}
		verdict := r.paint(code, text.Pad(text.Clean(d.Verdict), verdictWidth))
		cause := text.Clean(strings.ReplaceAll(d.Cause, "_", " "))
		if d.Verdict != VerdictLikely && d.Verdict != VerdictPossible {
			r.line("  ", verdict, r.shorten(cause+": "+reason(d), 2+verdictWidth))
			continue
		}
		r.line("  ", verdict, r.bold(r.shorten(cause, 2+verdictWidth)))
		r.points("-", d.Evidence, maxEvidence)
		r.points(r.mark(), d.Advice, maxAdvice)
		r.points("?", d.Surer, maxSurer)
	}
}

// points prints sentences behind a mark, indented under a verdict.
func (r *report) points(mark string, sentences []string, limit int) {
	indent := strings.Repeat(" ", 4)
	for _, s := range sentences[:min(len(sentences), limit)] {
		label := indent + mark + " "
		for _, line := range wrap(text.Clean(s), r.style.Width-len(indent)-2) {
			r.line(label, line)
			label = indent + "  "
		}
	}
}

// mark stands before what to do.
func (p *page) mark() string {
	if p.style.Unicode {
		return "→"
	}
	return ">"
}

// shorten cuts text to what is left of a line.
func (r *report) shorten(s string, used int) string {
	return cut(text.Clean(s), r.style.Width-used, r.ellipsis())
}

// reason returns what a verdict that is no more than a line rests on.
func reason(d Diagnosis) string {
	for _, list := range [][]string{d.Surer, d.Evidence} {
		if len(list) > 0 {
			return list[0]
		}
	}
	return "no evidence"
}
