package attribution

import (
	"github.com/beamprof/beamprof/collector"
)

// Bounds of what is held back.
const (
	sliceLength = 1_000_000_000 // nanoseconds
	maxHeld     = 8192          // samples; a slice with more ends early
	maxLate     = 16384         // samples without evidence in their slice; more are split by what is known so far
)

// held is a sample that waits for its slice to end.
type held struct {
	sample  *collector.Sample
	verdict verdict
	matched set
}

// evidence is decided time by workload, as far as selections ask for it.
type evidence struct {
	selections [][]int64 // by number of the selection's matcher, less the rules
	processes  map[*collector.Process][]int64
	kinds      map[string][]int64
}

// apportioner splits samples that carry no evidence of their own in proportion
// to samples that do: those of the same slice of time, or of the whole window
// if there are none in the slice.
//
// A slice is short enough for work and those it is done for to be in the same
// one, and long enough to hold samples of both.
type apportioner struct {
	*Attributor
	selections  set     // all of them
	selectionOf []set   // by rule
	numbers     [][]int // by rule: matcher of each selection, -1 for other scopes
	byProcess   bool    // some rule asks for same process or same kind
	slice       evidence
	window      evidence
	end         uint64 // of the slice; 0 before the first sample
	held        []held
	late        []held
	due         [][]float64 // by rule: samples owed to each workload
}

func newApportioner(a *Attributor) apportioner {
	p := apportioner{Attributor: a}
	next := len(a.rules.Rules)
	for r := range a.rules.Rules {
		var own set
		var numbers []int
		for _, s := range a.rules.Rules[r].Over {
			number := -1
			if s.Scope == ScopeConditions {
				number = next
				own.add(next)
				next++
			} else if s.Scope != ScopeMessages {
				p.byProcess = true
			}
			numbers = append(numbers, number)
		}
		p.selections.or(&own)
		p.selectionOf = append(p.selectionOf, own)
		p.numbers = append(p.numbers, numbers)
	}
	p.due = make([][]float64, len(a.rules.Rules))
	p.slice, p.window = newEvidence(next-len(a.rules.Rules)), newEvidence(next-len(a.rules.Rules))
	return p
}

func newEvidence(selections int) evidence {
	return evidence{selections: make([][]int64, selections), processes: map[*collector.Process][]int64{}, kinds: map[string][]int64{}}
}

func (e *evidence) clear() {
	for i := range e.selections {
		clear(e.selections[i])
	}
	clear(e.processes)
	clear(e.kinds)
}

// grown returns a list that has an element n.
func grown[T any](list []T, n int) []T {
	for len(list) <= n {
		var zero T
		list = append(list, zero)
	}
	return list
}

// count notes decided time, for what is to be split by it. What the VM does for
// itself and what is not decided tell nothing.
func (p *apportioner) count(process *collector.Process, matched set, workload int, nanoseconds int64) {
	if workload == p.unattributed || workload == p.vm {
		return
	}
	selected := matched
	selected.and(&p.selections)
	for _, e := range []*evidence{&p.slice, &p.window} {
		for rest := selected; ; {
			i := rest.first()
			if i < 0 {
				break
			}
			rest[i/64] &^= 1 << (i % 64)
			n := i - len(p.rules.Rules)
			e.selections[n] = grown(e.selections[n], workload)
			e.selections[n][workload] += nanoseconds
		}
		if p.byProcess && process != nil {
			add(e.processes, process, workload, nanoseconds)
			add(e.kinds, process.Kind, workload, nanoseconds)
		}
	}
}

func add[K comparable](table map[K][]int64, key K, workload int, nanoseconds int64) {
	times, ok := table[key]
	if !ok && len(table) >= maxCached {
		return
	}
	times = grown(times, workload)
	times[workload] += nanoseconds
	table[key] = times
}

// hold keeps a sample until its slice ends.
func (p *apportioner) hold(s *collector.Sample, v verdict, matched set) {
	p.held = append(p.held, held{clone(s), v, matched})
	if len(p.held) >= maxHeld {
		p.endSlice()
	}
}

// advance ends the slice if it is over at a time.
func (p *apportioner) advance(now uint64) {
	if now < p.end {
		return
	}
	if p.end != 0 {
		p.endSlice()
	}
	p.end = now + sliceLength
}

func (p *apportioner) endSlice() {
	p.late = append(p.late, p.resolve(p.held, &p.slice, false)...)
	clear(p.held)
	p.held = p.held[:0]
	p.slice.clear()
	if len(p.late) >= maxLate {
		p.endLate()
	}
}

func (p *apportioner) endLate() {
	late := p.late
	p.late = nil
	p.resolve(late, &p.window, true)
}

// finish ends the window.
func (p *apportioner) finish() {
	p.endSlice()
	p.endLate()
	p.window.clear()
	clear(p.messages)
	p.end = 0
}

// resolve splits samples by evidence and returns those for which there is none;
// if it is the last chance they get what their rule says instead. Samples that
// are evidence for others go first. Those for which there is only some evidence
// as long as others wait, wait, too: the part that is known is no fair one.
func (p *apportioner) resolve(samples []held, by *evidence, last bool) (rest []held) {
	waiting := map[int][]held{}
	evidenceOf := map[int]*set{}
	for _, h := range samples {
		r := h.verdict.rule
		if waiting[r] == nil {
			evidenceOf[r] = &set{}
		}
		waiting[r] = append(waiting[r], h)
		evidenceOf[r].or(&h.matched)
	}
	var unknown set // selections that samples in rest are evidence for
	for len(waiting) > 0 {
		r := p.next(evidenceOf)
		incomplete := unknown.intersects(&p.selectionOf[r])
		for _, h := range waiting[r] {
			weights := p.weights(h, by)
			switch {
			case !last && p.awaits(h):
				rest = append(rest, h)
			case weights != nil && !incomplete:
				p.split(h, weights)
			case last:
				p.settle(h)
			default:
				rest = append(rest, h)
				matched := p.onlySelections(h.matched)
				unknown.or(&matched)
			}
		}
		delete(waiting, r)
		delete(evidenceOf, r)
	}
	return rest
}

// next returns a rule whose samples wait and whose selections do not select
// others that wait; of rules that wait for each other, the first.
func (p *apportioner) next(evidenceOf map[int]*set) int {
	first, free := -1, -1
	for r := range evidenceOf {
		if first < 0 || r < first {
			first = r
		}
		waits := false
		for other, selected := range evidenceOf {
			waits = waits || other != r && selected.intersects(&p.selectionOf[r])
		}
		if !waits && (free < 0 || r < free) {
			free = r
		}
	}
	if free >= 0 {
		return free
	}
	return first
}

// awaits tells whether a sample is to be split by messages, which are known at
// the end of the window.
func (p *apportioner) awaits(h held) bool {
	over := p.rules.Rules[h.verdict.rule].Over
	return p.awaited && h.sample.Peer != "" && len(over) > 0 && over[0].Scope == ScopeMessages
}

// weights returns the time by workload that a sample is to be split by, or nil.
func (p *apportioner) weights(h held, by *evidence) []int64 {
	rule := h.verdict.rule
	for i, s := range p.rules.Rules[rule].Over {
		var weights []int64
		switch {
		case s.Scope == ScopeConditions:
			weights = by.selections[p.numbers[rule][i]-len(p.rules.Rules)]
		case s.Scope == ScopeMessages:
			weights = p.messages[h.sample.Peer]
		case h.verdict.subject == nil:
		case s.Scope == ScopeSameProcess:
			weights = by.processes[h.verdict.subject]
		case s.Scope == ScopeSameKind:
			weights = by.kinds[h.verdict.subject.Kind]
		}
		for _, w := range weights {
			if w > 0 {
				return weights
			}
		}
	}
	return nil
}

// split passes a sample on in parts. The nanoseconds are split by largest
// remainder. The sample as such can't be split: over all samples of a rule each
// workload gets as many as it is due.
func (p *apportioner) split(h held, weights []int64) {
	parts := share(p.period, weights)
	due := grown(p.due[h.verdict.rule], len(weights)-1)
	p.due[h.verdict.rule] = due
	most := -1
	for w := range weights {
		due[w] += float64(parts[w]) / float64(p.period)
		if parts[w] > 0 && (most < 0 || due[w] > due[most]) {
			most = w
		}
	}
	due[most]--
	for w, nanoseconds := range parts {
		if nanoseconds == 0 {
			continue
		}
		part := Part{Workload: p.names[w], Basis: BasisApportioned, Nanoseconds: nanoseconds}
		if w == most {
			part.Samples = 1
		}
		p.emit(h.sample, part)
	}
	for w, nanoseconds := range parts {
		if nanoseconds > 0 {
			p.count(h.sample.Process, p.onlySelections(h.matched), w, nanoseconds)
		}
	}
}

// onlySelections is what a split sample is evidence for: not for its own
// process, of which it would only repeat what is known.
func (p *apportioner) onlySelections(matched set) set {
	matched.and(&p.selections)
	return matched
}

// settle passes on a sample for which there is no evidence.
func (p *apportioner) settle(h held) {
	v := h.verdict
	part := Part{Workload: p.names[v.workload], Basis: v.basis, Samples: 1, Nanoseconds: p.period}
	if v.basis == BasisNone {
		part.Reason = v.reason
	}
	p.count(h.sample.Process, p.onlySelections(h.matched), v.workload, p.period)
	p.emit(h.sample, part)
}

// share splits total in proportion to weights, of which one is positive. The
// parts add up to total.
func share(total int64, weights []int64) []int64 {
	var sum float64
	for _, w := range weights {
		sum += float64(max(w, 0))
	}
	parts := make([]int64, len(weights))
	remainders := make([]float64, len(weights))
	left := total
	for i, w := range weights {
		exact := float64(total) * (float64(max(w, 0)) / sum)
		parts[i] = min(int64(exact), left)
		remainders[i] = exact - float64(parts[i])
		left -= parts[i]
	}
	for ; left > 0; left-- {
		most := 0
		for i := range remainders {
			if weights[i] > 0 && (weights[most] <= 0 || remainders[i] > remainders[most]) {
				most = i
			}
		}
		parts[most]++
		remainders[most]--
	}
	return parts
}
