package attribution

import (
	"fmt"
	"slices"

	"github.com/beamprof/beamprof/collector/logs"
)

// Workloads that every rule set has.
const (
	VM           = "vm"           // the VM's own overhead: never spread over the others
	Unattributed = "unattributed" // what no rule decides
)

// Rules is a rule set: what a node's CPU time can be spent on, and how to tell.
// It is not changed after Parse.
type Rules struct {
	Name      string     // vernemq
	About     string     // one line for people
	Detect    []string   // modules; the set fits a node that has loaded one of them
	Workloads []Workload // in the order of the file, without Unattributed
	Rules     []Rule     // the first whose conditions hold decides
	Signals   []Signal   // what to look for in the logs
	Causes    []Cause    // what to judge of the whole
	problems  []Problem  // that do not keep the set from being used
}

// Workload is something that CPU time is spent on.
type Workload struct{ Name, About string }

// Signal is a kind of line in the logs that tells of something.
type Signal struct {
	logs.Signal
	About string
}

func (r *Rules) signal(name string) *Signal {
	for i := range r.Signals {
		if r.Signals[i].Name == name {
			return &r.Signals[i]
		}
	}
	return nil
}

// Rule says what decides about the samples for which its conditions hold.
type Rule struct {
	Line, Column int // in its file, from 1
	When         Conditions
	Then         []Step      // tried in order until one decides
	Over         []Selection // for a StepApportion: what the time is split by, tried in order
}

// StepKind is a way to decide.
type StepKind uint8

// The ways to decide.
const (
	StepWorkload    StepKind = iota // it is for this workload
	StepCaller                      // as the process that asked is decided
	StepParent                      // as the process that spawned it is decided
	StepOwner                       // as the process that owns the port is decided
	StepApportion                   // split as others' time in the same time slice is
	StepApplication                 // for the application that the process's module belongs to
)

// Step is one way to decide.
type Step struct {
	Kind     StepKind
	Workload string // of a StepWorkload
}

// Scope says which samples a Selection is about.
type Scope uint8

// The scopes of a Selection.
const (
	ScopeConditions  Scope = iota // those for which its conditions hold
	ScopeSameProcess              // the others of the same process
	ScopeSameKind                 // the others of processes of the same kind
	ScopeMessages                 // none: the messages to and from the node that a sample works for
)

// Selection selects the samples by whose workloads others are split.
type Selection struct {
	Scope Scope
	When  Conditions // of ScopeConditions
}

// Field is what a condition is about.
type Field uint8

// The fields. A condition on one holds if any of its patterns matches.
const (
	FieldProcess  Field = iota // registered name, initial call, or either with numbers folded; "none"
	FieldParent                // the same of the process that spawned it
	FieldCaller                // the same of the process that asked; "none"
	FieldRequest               // tag of the request; "none"
	FieldType                  // call, cast, info, event, ...
	FieldFunction              // any Erlang function in its stack
	FieldNative                // any C function in its stack
	FieldState                 // what the thread was doing
	FieldThread                // role or name of the thread
	FieldPort                  // name or driver of the port that the thread executes; "none"
	fields                     // how many there are
)

var fieldNames = [fields]string{"process", "parent", "caller", "request", "type", "function", "native", "state", "thread", "port"}

// String returns the name of the field as rule files have it.
func (f Field) String() string { return fieldNames[f] }

// Conditions must all hold. A field without patterns has no condition.
type Conditions [fields][]pattern

// empty tells whether the conditions hold always.
func (c *Conditions) empty() bool {
	return !slices.ContainsFunc(c[:], func(p []pattern) bool { return p != nil })
}

// covers tells whether c holds wherever d does.
func (c *Conditions) covers(d *Conditions) bool {
	for f := range fields {
		if c[f] == nil {
			continue
		}
		if d[f] == nil {
			return false
		}
		for _, q := range d[f] {
			if !covered(q, c[f]) {
				return false
			}
		}
	}
	return true
}

// basis is the kind of evidence that the conditions are: the most specific one.
func (c *Conditions) basis() string {
	switch {
	case c[FieldFunction] != nil, c[FieldNative] != nil, c[FieldState] != nil && c[FieldPort] == nil:
		return BasisStack
	case c[FieldCaller] != nil:
		return BasisCaller
	case c[FieldRequest] != nil, c[FieldType] != nil:
		return BasisRequest
	case c[FieldParent] != nil:
		return BasisParent
	}
	return BasisProcess
}

// Problem is something wrong in a rule file, and where.
type Problem struct {
	File         string
	Line, Column int // from 1
	Message      string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Error is what keeps a rule file from being used.
type Error struct{ Problems []Problem }

func (e *Error) Error() string {
	text := ""
	for i, p := range e.Problems {
		if i > 0 {
			text += "\n"
		}
		text += p.String()
	}
	return text
}

// Problems returns what is wrong with the set although it can be used: rules
// that can't be reached, lists and workloads that nothing uses.
func (r *Rules) Problems() []Problem { return r.problems }
