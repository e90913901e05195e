package attribution

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/beamprof/beamprof/collector/logs"
)

// Bounds of the sections logs and diagnosis.
const (
	maxSignals    = 32
	maxLogPattern = 64 // in all signals: what logs can search for at once
	maxSentence   = 300
)

// parseLogs reads the lines of a log that tell of something.
func (p *parser) parseLogs(n *yaml.Node, r *Rules) {
	for _, item := range p.sequence(n, "logs") {
		fields := p.mapping(item, "a signal", "signal", "about", "lines", "of", "repeats", "times")
		if fields == nil {
			continue
		}
		s := logs.Signal{Name: p.text(fields["signal"]), Of: p.text(fields["of"]), Repeats: p.text(fields["repeats"])}
		about := p.sentence(item, fields["about"], "about")
		switch {
		case fields["signal"] == nil:
			p.fail(item, "signal is missing: its name")
		case !workloadName.MatchString(s.Name):
			p.fail(fields["signal"], "signal %q: names are lower-case letters, digits and _", s.Name)
		case r.signal(s.Name) != nil:
			p.fail(fields["signal"], "the signal %q stands twice", s.Name)
		case len(r.Signals) == maxSignals:
			p.fail(item, "more than %d signals", maxSignals)
		}
		switch {
		case (fields["lines"] == nil) == (fields["of"] == nil):
			p.fail(item, "a signal has lines, or is one of another signal's that repeats a value: of, repeats, times")
		case fields["lines"] != nil:
			s.Patterns = p.logPatterns(fields["lines"])
		default:
			p.parseRepeats(item, fields, &s, r)
		}
		r.Signals = append(r.Signals, Signal{s, about})
	}
}

func (p *parser) logPatterns(n *yaml.Node) (patterns []*logs.Pattern) {
	for _, item := range p.scalars(n) {
		pattern, err := logs.ParsePattern(item.Value)
		if err != nil {
			p.fail(item, "pattern %q: %v", item.Value, err)
			continue
		}
		if p.logs = append(p.logs, logPattern{pattern, item}); len(p.logs) == maxLogPattern+1 {
			p.fail(item, "more than %d patterns of lines", maxLogPattern)
		}
		patterns = append(patterns, pattern)
	}
	if len(patterns) == 0 && len(p.errors) == 0 {
		p.fail(n, "no pattern")
	}
	return patterns
}

// parseRepeats reads a signal that is told by another one's repetition.
func (p *parser) parseRepeats(n *yaml.Node, fields map[string]*yaml.Node, s *logs.Signal, r *Rules) {
	of := r.signal(s.Of)
	if of == nil || of.Of != "" {
		p.fail(fields["of"], "no signal %q with lines before this one", s.Of)
		return
	}
	has := func(pattern *logs.Pattern) bool { return slices.Contains(pattern.Fields(), s.Repeats) }
	if fields["repeats"] == nil || !slices.ContainsFunc(of.Patterns, has) {
		p.fail(n, "repeats must name a field of the signal %q", s.Of)
	}
	var err error
	if s.Times, err = strconv.Atoi(p.text(fields["times"])); err != nil || s.Times < 2 || s.Times > 1000 {
		p.fail(n, "times must be a whole number from 2 to 1000")
	}
}

// sentence reads text for people that must be there.
func (p *parser) sentence(parent, n *yaml.Node, what string) string {
	s := p.text(n)
	switch {
	case strings.TrimSpace(s) == "":
		p.fail(parent, "%s is missing: a sentence", what)
	case len(s) > maxSentence:
		p.fail(n, "%s has more than %d bytes", what, maxSentence)
	}
	return s
}

// parseDiagnosis reads what is to be known of the causes.
func (p *parser) parseDiagnosis(n *yaml.Node, r *Rules) {
	for _, pair := range p.pairs(n, "diagnosis") {
		name := pair[0].Value
		known := thresholds[name]
		if known == nil {
			p.fail(pair[0], "no cause %q: there are %s", name, strings.Join(slices.Sorted(maps.Keys(thresholds)), ", "))
			continue
		}
		fields := p.mapping(pair[1], name, "about", "workloads", "signals", "thresholds", "advice")
		if fields == nil {
			continue
		}
		c := Cause{Name: name, About: p.sentence(pair[0], fields["about"], "about"), Thresholds: map[string]Threshold{}}
		for _, item := range p.scalars(fields["workloads"]) {
			if p.workloads[item.Value] == nil {
				p.fail(item, "no workload %q: the file declares %s", item.Value, p.declared())
			}
			c.Workloads = append(c.Workloads, item.Value)
		}
		for _, item := range p.scalars(fields["signals"]) {
			if r.signal(item.Value) == nil {
				p.fail(item, "no signal %q in logs", item.Value)
			}
			c.Signals = append(c.Signals, item.Value)
		}
		for _, item := range p.scalars(fields["advice"]) {
			c.Advice = append(c.Advice, p.sentence(item, item, "advice"))
		}
		p.parseThresholds(pair[0], fields["thresholds"], &c)
		r.Causes = append(r.Causes, c)
	}
}

func (p *parser) parseThresholds(parent, n *yaml.Node, c *Cause) {
	known := thresholds[c.Name]
	for _, pair := range p.pairs(n, "thresholds") {
		name := pair[0].Value
		limit, isKnown := known[name]
		if !isKnown {
			p.fail(pair[0], "no threshold %q: %s has %s", name, c.Name, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
			continue
		}
		fields := p.mapping(pair[1], "a threshold", "at", "because")
		if fields == nil {
			continue
		}
		at, err := strconv.ParseFloat(p.text(fields["at"]), 64)
		if err != nil || !(at > 0 && at <= limit) {
			p.fail(pair[1], "at must be a number above 0 and at most %g", limit)
		}
		c.Thresholds[name] = Threshold{at, p.sentence(pair[1], fields["because"], "because")}
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if _, ok := c.Thresholds[name]; !ok {
			p.fail(parent, "the threshold %s is missing", name)
		}
	}
}

// logPattern is a pattern and where it stands.
type logPattern struct {
	pattern *logs.Pattern
	node    *yaml.Node
}

// checkLogs finds patterns of lines that never decide.
func (p *parser) checkLogs() {
	for i, later := range p.logs {
		for _, earlier := range p.logs[:i] {
			if earlier.pattern.Covers(later.pattern) {
				p.problems = append(p.problems, p.at(later.node, "this pattern is never reached: the one in line %d holds wherever it would", earlier.node.Line))
				break
			}
		}
	}
}
