// Package attribution tells for which workload a VM's CPU time was spent.
//
// What decides is for whom work is done, and names alone can't tell: shared
// servers, spawned funs, thread pools and log writers work for everybody. So a
// rule set (rules.go; rules/*.yaml) says for each kind of process which
// evidence decides: what it executes, the request it handles, the process that
// asked for it, the process that spawned it; and for work that carries no such
// evidence, by whose samples in the same time slice it is to be split.
//
// An Attributor takes samples as they come (Add) and hands on the parts they
// are made of: most at once and whole, those to be split when their slice ends
// (apportion.go). The parts of all samples add up to what was added, to the
// nanosecond. Nothing here does I/O.
package attribution

import "github.com/beamprof/beamprof/collector"

// The values of the label basis: by which kind of evidence was decided.
const (
	BasisStack       = "stack"       // what it executes
	BasisRequest     = "request"     // the request it handles
	BasisCaller      = "caller"      // who asked
	BasisParent      = "parent"      // who spawned it
	BasisProcess     = "process"     // which process, port or thread it is
	BasisApportioned = "apportioned" // split as others' time is
	BasisNone        = "none"        // not decided
)

// Part is a part of a sample's time, or all of it.
type Part struct {
	Workload    string
	Basis       string
	Reason      string // why it is unattributed; empty otherwise
	Samples     int64  // 1 for one part of a sample, 0 for its other parts
	Nanoseconds int64
}

// Attributor attributes the samples of one recording. It is not safe for
// concurrent use.
type Attributor struct {
	rules        *Rules
	names        []string       // workloads by number; applications are added as they are met
	numbers      map[string]int // the other way round
	vm           int            // its number, -1 if the set has none
	kinds        map[string]*collector.Process
	applications map[*collector.Process]string

	unattributed int
	period       int64
	emit         func(*collector.Sample, Part)
	match        matcher
	apportion    apportioner
	chain        []actor            // of the sample being decided
	awaited      bool               // messages are
	messages     map[string][]int64 // cost by workload, by peer
}

// New returns an Attributor that passes every part of every sample to emit.
// period is what a sample stands for, in nanoseconds. A sample that emit gets
// is valid until it returns.
func New(rules *Rules, period int64, emit func(*collector.Sample, Part)) *Attributor {
	a := &Attributor{
		rules: rules, period: period, emit: emit, match: newMatcher(rules),
		numbers: map[string]int{}, kinds: map[string]*collector.Process{}, applications: map[*collector.Process]string{}, vm: -1, messages: map[string][]int64{},
	}
	for _, w := range rules.Workloads {
		n := a.number(w.Name)
		if w.Name == VM {
			a.vm = n
		}
	}
	a.unattributed = a.number(Unattributed)
	a.apportion = newApportioner(a)
	return a
}

// Rules returns the rule set in use.
func (a *Attributor) Rules() *Rules { return a.rules }

// Add attributes a sample. It and its stacks may be reused by the caller
// afterwards; frames, threads and processes are kept.
func (a *Attributor) Add(s *collector.Sample) {
	a.apportion.advance(s.Time)
	v, matched := a.decide(s)
	if v.split {
		a.apportion.hold(s, v, matched)
		return
	}
	a.apportion.count(s.Process, matched, v.workload, a.period)
	part := Part{Workload: a.names[v.workload], Basis: v.basis, Samples: 1, Nanoseconds: a.period}
	if v.basis == BasisNone {
		part.Reason = v.reason
	}
	a.emit(s, part)
}

// AwaitMessages says that messages will be counted before the window ends:
// samples that are to be split by them wait.
func (a *Attributor) AwaitMessages() { a.awaited = true }

// CountMessages notes what the messages to and from another node cost for a
// workload, in any unit.
func (a *Attributor) CountMessages(peer, workload string, cost float64) {
	n := a.number(workload)
	if n == a.vm || n == a.unattributed || !(cost > 0 && cost < 1<<60) {
		return
	}
	costs := grown(a.messages[peer], n)
	costs[n] += int64(cost)
	a.messages[peer] = costs
}

// Close passes on what waits for its time slice to end. Samples may be added
// afterwards; they begin a new window.
func (a *Attributor) Close() { a.apportion.finish() }

// clone returns a copy of a sample that outlives the call it came with.
func clone(s *collector.Sample) *collector.Sample {
	c := *s
	total := len(s.Stack)
	for _, caller := range s.Callers {
		total += len(caller.Stack)
	}
	frames := append(make([]*collector.Frame, 0, total), s.Stack...)
	c.Stack = frames[:len(frames):len(frames)]
	c.Callers = append([]collector.Caller(nil), s.Callers...)
	for i, caller := range s.Callers {
		first := len(frames)
		frames = append(frames, caller.Stack...)
		c.Callers[i].Stack = frames[first:len(frames):len(frames)]
	}
	return &c
}
