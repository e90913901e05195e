package attribution

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/beamprof/beamprof/collector"
)

// Bounds of a rule file. Real ones are a page.
const (
	maxFile     = 1 << 20 // bytes
	maxMatchers = 256     // rules and selections
	maxProblems = 20      // reported at once
)

// reserved are words that say how to decide, and so can't name workloads.
var reserved = map[string]StepKind{
	"caller": StepCaller, "parent": StepParent, "owner": StepOwner, "apportion": StepApportion, "application": StepApplication,
}

var workloadName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

// Parse reads a rule set. file names it in messages. An *Error lists what is
// wrong, each with line and column.
func Parse(file string, data []byte) (*Rules, error) {
	p := &parser{file: file, lists: map[string]*list{}, workloads: map[string]*yaml.Node{}, used: map[string]bool{}}
	rules := p.parse(data)
	if len(p.errors) > 0 {
		slices.SortStableFunc(p.errors, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		return nil, &Error{p.errors[:min(len(p.errors), maxProblems)]}
	}
	p.checkUse(rules)
	return rules, nil
}

type list struct {
	node     *yaml.Node
	patterns []pattern
	used     bool
}

type parser struct {
	file      string
	lists     map[string]*list
	workloads map[string]*yaml.Node // by name, where it is declared
	used      map[string]bool       // workloads
	matchers  int
	logs      []logPattern
	errors    []Problem
	problems  []Problem
}

func (p *parser) at(n *yaml.Node, format string, args ...any) Problem {
	return Problem{p.file, max(n.Line, 1), max(n.Column, 1), fmt.Sprintf(format, args...)}
}

func (p *parser) fail(n *yaml.Node, format string, args ...any) {
	p.errors = append(p.errors, p.at(n, format, args...))
}

func (p *parser) parse(data []byte) *Rules {
	var document yaml.Node
	if len(data) > maxFile {
		p.fail(&document, "the file has more than %d bytes", maxFile)
		return nil
	}
	if err := unmarshal(data, &document); err != nil {
		line, message := yamlError(err)
		p.fail(&yaml.Node{Line: line}, "%s", message)
		return nil
	}
	if len(document.Content) == 0 {
		p.fail(&document, "the file is empty: it needs name, workloads and rules")
		return nil
	}
	r := &Rules{}
	top := p.mapping(document.Content[0], "the file", "name", "about", "detect", "workloads", "lists", "rules", "logs", "diagnosis")
	for _, key := range []string{"name", "workloads", "rules"} {
		if top != nil && top[key] == nil {
			p.fail(document.Content[0], "%s is missing", key)
		}
	}
	r.Name, r.About = p.text(top["name"]), p.text(top["about"])
	if detect := p.mapping(top["detect"], "detect", "modules"); detect != nil {
		r.Detect = p.strings(detect["modules"])
	}
	p.parseWorkloads(top["workloads"], r)
	p.parseLists(top["lists"])
	for _, n := range p.sequence(top["rules"], "rules") {
		p.parseRule(n, r)
	}
	p.parseLogs(top["logs"], r)
	p.parseDiagnosis(top["diagnosis"], r)
	return r
}

// unmarshal turns the panics that the library's scanner is known to have on
// odd input into errors.
func unmarshal(data []byte, document *yaml.Node) (err error) {
	defer func() {
		if caught := recover(); caught != nil {
			err = fmt.Errorf("not YAML: %v", caught)
		}
	}()
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(document); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	var another yaml.Node
	if err := decoder.Decode(&another); !errors.Is(err, io.EOF) {
		return fmt.Errorf("line %d: a second document: one file is one rule set", max(another.Line, 1))
	}
	return nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// yamlError takes the line out of the library's message.
func yamlError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatchIndex(message); m != nil {
		line, _ = strconv.Atoi(message[m[2]:m[3]])
		message = message[:m[0]] + message[m[1]:]
	}
	return line, message
}

func (p *parser) parseWorkloads(n *yaml.Node, r *Rules) {
	for _, pair := range p.pairs(n, "workloads") {
		name := pair[0].Value
		_, isStep := reserved[name]
		switch {
		case !workloadName.MatchString(name):
			p.fail(pair[0], "workload %q: names are lower-case letters, digits and _", name)
		case isStep || name == Unattributed:
			p.fail(pair[0], "%q has a meaning of its own and can't name a workload", name)
		}
		p.workloads[name] = pair[0]
		r.Workloads = append(r.Workloads, Workload{name, p.text(pair[1])})
	}
}

func (p *parser) parseLists(n *yaml.Node) {
	for _, pair := range p.pairs(n, "lists") {
		l := &list{node: pair[0]}
		for _, item := range p.scalars(pair[1]) {
			if strings.HasPrefix(item.Value, "$") {
				p.fail(item, "a list can't refer to another one")
			} else if item.Value == "" {
				p.fail(item, "empty pattern")
			}
			l.patterns = append(l.patterns, pattern(item.Value))
		}
		p.lists[pair[0].Value] = l
	}
}

func (p *parser) parseRule(n *yaml.Node, r *Rules) {
	fields := p.mapping(n, "a rule", "when", "then", "over")
	if fields == nil {
		return
	}
	rule := Rule{Line: n.Line, Column: n.Column}
	if fields["when"] == nil {
		p.fail(n, "when is missing: write {} for a rule that always holds")
	}
	rule.When = p.conditions(fields["when"])
	p.addMatcher(n)
	if fields["then"] == nil {
		p.fail(n, "then is missing")
	}
	p.parseSteps(fields["then"], &rule)
	p.parseOver(fields["over"], &rule)
	apportions := slices.ContainsFunc(rule.Then, func(s Step) bool { return s.Kind == StepApportion })
	switch {
	case apportions && len(rule.Over) == 0:
		p.fail(fields["then"], "apportion needs over: what to split the time by")
	case !apportions && fields["over"] != nil:
		p.fail(fields["over"], "over is only for apportion")
	}
	r.Rules = append(r.Rules, rule)
}

func (p *parser) addMatcher(n *yaml.Node) {
	if p.matchers++; p.matchers == maxMatchers+1 {
		p.fail(n, "more than %d rules and selections", maxMatchers)
	}
}

// parseSteps reads what decides. After a workload nothing is tried any more,
// and after apportion only a workload can be: the sample is gone by then.
func (p *parser) parseSteps(n *yaml.Node, rule *Rule) {
	last := ""
	for _, item := range p.scalars(n) {
		kind, isStep := reserved[item.Value]
		switch {
		case last != "" && last != "apportion":
			p.fail(item, "never tried: %q before it always decides", last)
			return
		case last == "apportion" && isStep:
			p.fail(item, "after apportion only a workload can follow")
			return
		case slices.ContainsFunc(rule.Then, func(s Step) bool { return isStep && s.Kind == kind }):
			p.fail(item, "%q is tried already", item.Value)
			return
		case isStep:
			rule.Then = append(rule.Then, Step{Kind: kind})
			if kind == StepApportion {
				last = item.Value
			}
		default:
			if p.workloads[item.Value] == nil && item.Value != Unattributed {
				p.fail(item, "no workload %q: the file declares %s", item.Value, p.declared())
			}
			p.used[item.Value] = true
			rule.Then = append(rule.Then, Step{Workload: item.Value})
			last = item.Value
		}
	}
	if n != nil && len(rule.Then) == 0 {
		p.fail(n, "then is empty")
	}
}

func (p *parser) declared() string {
	var names []string
	for name := range p.workloads {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (p *parser) parseOver(n *yaml.Node, rule *Rule) {
	if n == nil {
		return
	}
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	for _, item := range items {
		switch {
		case item.Kind == yaml.MappingNode:
			s := Selection{When: p.conditions(item)}
			if s.When.empty() {
				p.fail(item, "a selection needs conditions")
			}
			p.addMatcher(item)
			rule.Over = append(rule.Over, s)
		case item.Kind == yaml.ScalarNode && item.Value == "same process":
			rule.Over = append(rule.Over, Selection{Scope: ScopeSameProcess})
		case item.Kind == yaml.ScalarNode && item.Value == "same kind":
			rule.Over = append(rule.Over, Selection{Scope: ScopeSameKind})
		case item.Kind == yaml.ScalarNode && item.Value == "messages":
			rule.Over = append(rule.Over, Selection{Scope: ScopeMessages})
		default:
			p.fail(item, "over is conditions, same process, same kind, or messages")
		}
	}
}

func (p *parser) conditions(n *yaml.Node) (c Conditions) {
	for _, pair := range p.pairs(n, "conditions") {
		field := slices.Index(fieldNames[:], pair[0].Value)
		if field < 0 {
			p.fail(pair[0], "unknown key %q: conditions are %s", pair[0].Value, strings.Join(fieldNames[:], ", "))
			continue
		}
		c[field] = p.patterns(pair[1], Field(field))
	}
	return c
}

// patterns reads a pattern or a list of them; $name stands for those of a list.
func (p *parser) patterns(n *yaml.Node, field Field) []pattern {
	patterns := []pattern{}
	for _, item := range p.scalars(n) {
		name, isList := strings.CutPrefix(item.Value, "$")
		switch {
		case isList && p.lists[name] == nil:
			p.fail(item, "no list %q", name)
		case isList:
			p.lists[name].used = true
			patterns = append(patterns, p.lists[name].patterns...)
		default:
			p.checkPattern(item, field)
			patterns = append(patterns, pattern(item.Value))
		}
	}
	if len(patterns) == 0 && n != nil && len(p.errors) == 0 {
		p.fail(n, "no pattern")
	}
	return patterns
}

var requestTypes = []string{"call", "cast", "info", "event", "timeout", "state_timeout", "internal", "continue"}

// checkPattern refuses patterns that can never match.
func (p *parser) checkPattern(n *yaml.Node, field Field) {
	value := n.Value
	switch {
	case value == "":
		p.fail(n, "empty pattern")
	case field == FieldFunction && !strings.ContainsAny(value, ":.*"):
		p.fail(n, "function %q: write module:function/arity, with * for any part", value)
	case field == FieldState && !slices.ContainsFunc(collector.States(), pattern(value).matches):
		p.fail(n, "no state %q: there are %s", value, strings.Join(collector.States(), ", "))
	case field == FieldType && !slices.ContainsFunc(requestTypes, pattern(value).matches):
		p.fail(n, "no type of request %q: there are %s", value, strings.Join(requestTypes, ", "))
	}
}

// coveredBy names the rules of which one holds wherever conditions do, alone or
// for one of the patterns of a field each; it is empty if there are none.
func coveredBy(c *Conditions, rules []Rule) string {
	first := func(c *Conditions) int {
		i := slices.IndexFunc(rules, func(r Rule) bool { return r.When.covers(c) })
		if i < 0 {
			return 0
		}
		return rules[i].Line
	}
	if line := first(c); line > 0 {
		return fmt.Sprintf("the one in line %d holds", line)
	}
	for f := range fields {
		var lines []string
		for _, q := range c[f] {
			one := *c
			one[f] = []pattern{q}
			line := first(&one)
			if line == 0 {
				lines = nil
				break
			}
			if text := strconv.Itoa(line); !slices.Contains(lines, text) {
				lines = append(lines, text)
			}
		}
		if len(lines) > 0 {
			return "one of those in lines " + strings.Join(lines, ", ") + " holds"
		}
	}
	return ""
}

// checkUse finds what does no harm and is of no use.
func (p *parser) checkUse(r *Rules) {
	for i := range r.Rules {
		rule := &r.Rules[i]
		if before := coveredBy(&rule.When, r.Rules[:i]); before != "" {
			p.problems = append(p.problems, Problem{p.file, rule.Line, rule.Column, "this rule is never reached: " + before + " wherever it would"})
		}
	}
	for name, l := range p.lists {
		if !l.used {
			p.problems = append(p.problems, p.at(l.node, "no rule uses the list %q", name))
		}
	}
	for name, n := range p.workloads {
		if !p.used[name] {
			p.problems = append(p.problems, p.at(n, "no rule leads to the workload %q", name))
		}
	}
	p.checkLogs()
	slices.SortStableFunc(p.problems, func(a, b Problem) int { return a.Line - b.Line })
	r.problems = p.problems
}
