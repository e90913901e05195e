// Package diagnosis judges, from the numbers of a recording, which known cause
// the trouble of a node or a cluster has: storm.go, inconsistent.go and
// busywait.go have a cause each, none.go what is left. What is missing makes a
// verdict weaker and never one of another kind; the thresholds are in the rule set.
package diagnosis

import (
	"cmp"
	"slices"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// Of returns the verdict on each cause that the rules know of, the likeliest
// first, from the summaries of one node, or of several of one cluster that were
// recorded at the same time.
func Of(nodes []*summary.Summary, rules *attribution.Rules) []summary.Diagnosis {
	if len(rules.Causes) == 0 {
		rules, _ = attribution.Builtin("otp")
	}
	e := newEvidence(nodes)
	var all []summary.Diagnosis
	for _, c := range []struct {
		name  string
		judge func(*evidence, *attribution.Cause) *finding
	}{{attribution.ConnectionStorm, storm}, {attribution.InconsistentState, inconsistent}, {attribution.BusyWait, busyWait}} {
		if cause := rules.Cause(c.name); cause != nil {
			f := c.judge(e, cause)
			f.cause = c.name
			e.found = append(e.found, f)
			all = append(all, f.diagnosis(cause))
		}
	}
	if cause := rules.Cause(attribution.NoneOfThese); cause != nil {
		all = append(all, none(e, cause).diagnosis(cause))
	}
	slices.SortStableFunc(all, func(a, b summary.Diagnosis) int { return cmp.Compare(rank(a.Verdict), rank(b.Verdict)) })
	return all
}

func rank(verdict string) int {
	return slices.Index([]string{summary.VerdictLikely, summary.VerdictPossible, summary.VerdictUnknown, summary.VerdictUnlikely}, verdict)
}

// finding is a verdict and what it rests on.
type finding struct {
	verdict  string
	evidence []string
	surer    []string
	first    string // advice that comes before the rules'; empty if there is none
	cause    string
}

func (f *finding) diagnosis(c *attribution.Cause) summary.Diagnosis {
	d := summary.Diagnosis{Cause: c.Name, About: c.About, Verdict: f.verdict, Evidence: f.evidence, Surer: f.surer, Advice: []string{}}
	if f.first != "" {
		d.Advice = append(d.Advice, f.first)
	}
	if f.verdict == summary.VerdictLikely || f.verdict == summary.VerdictPossible {
		d.Advice = append(d.Advice, c.Advice...)
	}
	if d.Evidence == nil {
		d.Evidence = []string{}
	}
	return d
}

// answer is what a piece of evidence says: yes, no, something between, or nothing.
type answer int

const (
	unknown answer = iota
	no
	partly
	yes
)
