package attribution

import (
	"math/bits"

	"github.com/beamprof/beamprof/collector"
)

// set is a set of numbered matchers: the rules of a set in their order, and
// after them the selections.
type set [maxMatchers / 64]uint64

func (s *set) add(i int) { s[i/64] |= 1 << (i % 64) }
func (s *set) and(o *set) {
	for i := range s {
		s[i] &= o[i]
	}
}
func (s *set) or(o *set) {
	for i := range s {
		s[i] |= o[i]
	}
}
func (s *set) intersects(o *set) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

// first returns the lowest number in the set, or -1.
func (s *set) first() int {
	for i, word := range s {
		if word != 0 {
			return 64*i + bits.TrailingZeros64(word)
		}
	}
	return -1
}

// none is the pattern for what is not there.
const none = "none"

// maxCached bounds each cache; a full one is emptied, which costs time only.
const maxCached = 1 << 16

// actor is what rules are applied to: a sampled thread and its process, or a
// process that waits for it, of which no state and no thread are known.
type actor struct {
	process       *collector.Process
	caller        *collector.Process
	port          *collector.Port
	request, kind string // kind is the type of the request
	stack         []*collector.Frame
	thread        *collector.Thread
	state         collector.State
}

// matcher finds the matchers whose conditions hold. Each condition is looked at
// once for every process, frame, thread and request there is, as those are
// interned: after that a sample costs one look-up per frame.
type matcher struct {
	conditions []*Conditions
	free       [fields]set // matchers without a condition on the field
	stacks     set         // matchers with a condition on functions
	processes  map[*collector.Process]set
	callers    map[*collector.Process]set
	frames     map[*collector.Frame]set
	threads    map[string]set
	ports      map[*collector.Port]set
	requests   map[string]set
	types      map[string]set
	states     []set
}

// named returns a process of which only the kind is known.
func (a *Attributor) named(kind string) *collector.Process {
	p, ok := a.kinds[kind]
	if !ok {
		if len(a.kinds) >= maxCached {
			clear(a.kinds)
		}
		p = &collector.Process{Name: kind, Kind: kind}
		a.kinds[kind] = p
	}
	return p
}

func newMatcher(r *Rules) matcher {
	m := matcher{
		processes: map[*collector.Process]set{}, callers: map[*collector.Process]set{}, frames: map[*collector.Frame]set{},
		threads: map[string]set{}, ports: map[*collector.Port]set{}, requests: map[string]set{}, types: map[string]set{},
	}
	for i := range r.Rules {
		m.conditions = append(m.conditions, &r.Rules[i].When)
	}
	for i := range r.Rules {
		for j := range r.Rules[i].Over {
			if s := &r.Rules[i].Over[j]; s.Scope == ScopeConditions {
				m.conditions = append(m.conditions, &s.When)
			}
		}
	}
	for i, c := range m.conditions {
		for f := range fields {
			if c[f] == nil {
				m.free[f].add(i)
			}
		}
		if c[FieldFunction] != nil || c[FieldNative] != nil {
			m.stacks.add(i)
		}
	}
	for _, name := range collector.States() {
		m.states = append(m.states, m.holding(FieldState, name))
	}
	return m
}

// matches returns the matchers whose conditions an actor fulfils.
func (m *matcher) matches(a *actor) set {
	s := cached(m.processes, a.process, m.process)
	if a.thread == nil {
		s.and(&m.free[FieldState])
		s.and(&m.free[FieldThread])
		s.and(&m.free[FieldPort])
	} else {
		s.and(&m.states[a.state])
		port := cached(m.ports, a.port, m.port)
		s.and(&port)
		thread := cached(m.threads, a.thread.Label(), func(label string) set { return m.holding(FieldThread, label) })
		s.and(&thread)
	}
	caller := cached(m.callers, a.caller, func(p *collector.Process) set { return m.person(FieldCaller, p) })
	s.and(&caller)
	request := cached(m.requests, a.request, func(request string) set { return m.holding(FieldRequest, request) })
	s.and(&request)
	kind := cached(m.types, a.kind, func(kind string) set { return m.holding(FieldType, kind) })
	s.and(&kind)
	if !s.intersects(&m.stacks) {
		return s
	}
	functions, native := m.free[FieldFunction], m.free[FieldNative]
	for _, frame := range a.stack {
		switch frame.Kind {
		case collector.FrameErlang:
			found := cached(m.frames, frame, func(f *collector.Frame) set { return m.holding(FieldFunction, f.Function) })
			functions.or(&found)
		case collector.FrameNative:
			found := cached(m.frames, frame, func(f *collector.Frame) set { return m.holding(FieldNative, f.Function) })
			native.or(&found)
		}
	}
	s.and(&functions)
	s.and(&native)
	return s
}

// holding returns the matchers without a condition on a field, and those whose
// condition a value of it fulfils.
func (m *matcher) holding(field Field, value string) set {
	s := m.free[field]
	for i, c := range m.conditions {
		for _, p := range c[field] {
			if p == none && value == "" || value != "" && p.matches(value) {
				s.add(i)
			}
		}
	}
	return s
}

// process returns the matchers whose conditions on the process and on its
// parent a process fulfils.
func (m *matcher) process(p *collector.Process) set {
	s := m.person(FieldProcess, p)
	parent := ""
	if p != nil {
		parent = p.Parent
	}
	parents := m.holding(FieldParent, parent)
	s.and(&parents)
	return s
}

// port is holding for the port: its name and its driver count.
func (m *matcher) port(p *collector.Port) set {
	if p == nil {
		return m.holding(FieldPort, "")
	}
	s, driver := m.holding(FieldPort, p.Name), m.holding(FieldPort, p.Driver)
	s.or(&driver)
	return s
}

// person is holding for a field about a process: each of its names counts.
func (m *matcher) person(field Field, p *collector.Process) set {
	if p == nil {
		return m.holding(field, "")
	}
	s := m.holding(field, p.Kind)
	for _, name := range []string{p.RegisteredName, p.InitialCall} {
		if name != "" {
			more := m.holding(field, name)
			s.or(&more)
		}
	}
	return s
}

// cached returns what find returns for a key, and remembers it.
func cached[K comparable, V any](cache map[K]V, key K, find func(K) V) V {
	found, ok := cache[key]
	if !ok {
		if len(cache) >= maxCached {
			clear(cache)
		}
		found = find(key)
		cache[key] = found
	}
	return found
}
