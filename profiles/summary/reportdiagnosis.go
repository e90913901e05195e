package summary

import (
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// detail is how many sentences of each kind a cause has at most, and how many
// lines each of them.
type detail struct{ evidence, surer, advice, lines int }

var (
	allDetail   = detail{30, 10, 10, 20}
	firstDetail = detail{4, 2, 2, 2}
	laterDetail = detail{2, 1, 2, 2} // of the causes after the first
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
	for i, d := range r.Diagnosis {
		open := d.Verdict == VerdictLikely || d.Verdict == VerdictPossible
		detail := firstDetail
		switch {
		case r.style.All:
			detail = allDetail
		case i > 0:
			detail = laterDetail
		}
		detail.evidence *= min(max(r.nodes, 1), maxNodes) // each node has some
		if d.Cause == attribution.NoneOfThese && d.Verdict == VerdictUnlikely && !r.style.All {
			continue // another is likely
		}
		verdict := r.paint(verdictColor[d.Verdict], text.Pad(text.Clean(d.Verdict), verdictWidth))
		cause := text.Clean(strings.ReplaceAll(d.Cause, "_", " "))
		if !open && !r.style.All {
			r.line("  ", verdict, r.shorten(cause+": "+reason(d), 2+verdictWidth))
			continue
		}
		r.line("  ", verdict, r.bold(r.shorten(cause, 2+verdictWidth)))
		if d.About != "" {
			r.point(" ", d.About, detail.lines)
		}
		r.points("-", d.Evidence, detail.evidence, detail.lines)
		switch d.Verdict {
		case VerdictLikely:
			r.points(r.mark(), d.Advice, detail.advice, detail.lines)
		case VerdictPossible: // what it takes to be sure comes before what is to be done then
			r.points("?", d.Surer, detail.surer, detail.lines)
			if len(d.Advice) > 0 {
				r.point(r.mark(), "if it is so: "+d.Advice[0], detail.lines)
			}
		default:
			r.points("?", d.Surer, detail.surer, detail.lines)
		}
	}
}

// found tells whether a known cause is likely.
func (s *Summary) found() bool {
	return slices.ContainsFunc(s.Diagnosis, func(d Diagnosis) bool { return d.Verdict == VerdictLikely && d.Cause != attribution.NoneOfThese })
}

var verdictColor = map[string]string{VerdictLikely: ansiRed, VerdictPossible: ansiYellow, VerdictUnlikely: ansiDim, VerdictUnknown: ansiDim}

func (r *report) points(mark string, sentences []string, limit, lines int) {
	for _, s := range sentences[:min(len(sentences), limit)] {
		r.point(mark, s, lines)
	}
}

// point prints a sentence behind a mark, indented under a verdict.
func (r *report) point(mark, sentence string, lines int) {
	const indent = "    "
	wrapped := wrap(text.Clean(sentence), r.style.Width-len(indent)-2)
	for i, line := range wrapped[:min(len(wrapped), lines)] {
		if i > 0 {
			mark = " "
		}
		if i == lines-1 && len(wrapped) > lines {
			line = cut(line+" "+wrapped[lines], r.style.Width-len(indent)-2, r.ellipsis())
		}
		r.line(indent, mark, " ", line)
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
