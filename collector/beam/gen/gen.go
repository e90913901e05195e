// Package gen knows where OTP's generic servers keep the request they are
// handling and who asked for it: in the Y registers of their own frames near
// the root of the stack. It works on copies of those frames and of the terms
// they point to.
//
// A Y register that the code does not need any more is overwritten before the
// next call (beam_ssa_codegen), so what a frame holds while it waits for a
// callback belongs to the request in progress, never to one that was answered.
package gen

// Terms gives access to terms that were copied together with the stack.
type Terms interface {
	// Tuple returns the arity of the tuple a term points to, and its first
	// elements (up to four). ok is false if it is no tuple or was not copied.
	Tuple(term uint64) (arity int, elements []uint64, ok bool)
	// Head returns the first element of the list a term points to.
	Head(term uint64) (uint64, bool)
	// Atom returns the text of an atom.
	Atom(term uint64) (string, bool)
	// Process tells whether a term is the pid of a process of this node or,
	// behind a pointer, of another one.
	Process(term uint64) bool
}

// Call is a request in progress.
type Call struct {
	Behaviour string // gen_server, gen_statem, gen_fsm, gen_event
	Type      string // call, cast, info, event, timeout, ...; empty if not known
	Request   string // tag of the request: an atom, or a tuple's first element
	From      uint64 // pid term of the caller of a call, or 0
}

// Table is what is known of the frames of one OTP release. The nil *Table knows
// nothing.
type Table struct {
	frames map[string][]frame // by function
}

// For returns the table of an OTP release ("25"), nil for one that is not known.
func For(release string) *Table { return tables[release] }

// Contains tells whether a function is one of those that keep a request.
func (t *Table) Contains(function string) bool {
	if t == nil {
		return false
	}
	_, ok := t.frames[function]
	return ok
}

// Read adds to call what a frame of a behaviour says of the request. y are the
// frame's Y registers. Frames are read from the root on, as long as more is
// false: known tells that the frame was one of a request in progress, more that
// a frame above it says the rest.
func (t *Table) Read(call *Call, function string, y []uint64, terms Terms) (known, more bool) {
	if t == nil {
		return false, false
	}
	for _, f := range t.frames[function] {
		if f.words != len(y) {
			continue
		}
		known = true
		call.Behaviour = f.behaviour
		if f.from != none {
			if pid := caller(y[f.from], terms); pid != 0 {
				call.Type, call.From = "call", pid
			}
		}
		if f.request != none {
			f.read(call, y[f.request], terms)
			return true, false
		}
		more = true
	}
	return known, more
}

// read takes apart what the Y register of a request holds.
func (f *frame) read(call *Call, term uint64, terms Terms) {
	kind, request, from := "", term, uint64(0)
	switch f.form {
	case plain:
		kind = "call"
	case event:
		kind = "event"
	case message:
		kind, request, from = unwrap(term, terms)
	case queue:
		kind, request, from = head(term, terms)
	case continuation:
		kind, request = "continue", 0
		if arity, elements, ok := terms.Tuple(term); ok && arity == 2 && len(elements) == 2 {
			request = elements[1]
		}
	}
	if from != 0 {
		call.From = from
	}
	if call.Type == "" {
		call.Type = kind
	}
	call.Request = tag(request, terms)
}

// wrappers are the tuples in which requests travel, by their first element:
// which element is the caller, and which the request (gen.erl, gen_server.erl,
// gen_statem.erl and gen_fsm.erl of OTP 23 to 28).
var wrappers = map[string]struct {
	kind          string
	arity         int
	from, request int
}{
	"$gen_call":                 {"call", 3, 1, 2},
	"$gen_cast":                 {"cast", 2, 0, 1},
	"$gen_event":                {"cast", 2, 0, 1},
	"$gen_all_state_event":      {"cast", 2, 0, 1},
	"$gen_sync_event":           {"call", 3, 1, 2},
	"$gen_sync_all_state_event": {"call", 3, 1, 2},
}

// unwrap takes a received message apart.
func unwrap(term uint64, terms Terms) (kind string, request, from uint64) {
	arity, elements, ok := terms.Tuple(term)
	if !ok || len(elements) == 0 {
		return "info", term, 0
	}
	name, _ := terms.Atom(elements[0])
	if name == "timeout" && arity == 3 {
		return timer(term, elements, terms)
	}
	w, ok := wrappers[name]
	if !ok || arity != w.arity || len(elements) < arity {
		return "info", term, 0
	}
	if w.from > 0 {
		from = caller(elements[w.from], terms)
	}
	return w.kind, elements[w.request], from
}

// timer takes apart what gen_fsm's timers send: {timeout, Ref, {'$gen_timer' or
// '$gen_event', Event}} (gen_fsm:start_timer/2, send_event_after/2).
func timer(term uint64, elements []uint64, terms Terms) (kind string, request, from uint64) {
	if len(elements) < 3 {
		return "info", term, 0
	}
	if arity, inner, ok := terms.Tuple(elements[2]); ok && arity == 2 && len(inner) == 2 {
		if name, _ := terms.Atom(inner[0]); name == "$gen_timer" || name == "$gen_event" {
			return "timeout", inner[1], 0
		}
	}
	return "info", term, 0
}

// initialState is the event with which gen_statem enters its first state
// (gen_statem:enter/8): nobody asked for it.
const initialState = "init_state"

// head takes gen_statem's queue of events apart: [{Type, Content} | _] with
// Type one of cast, info, internal, timeout, state_timeout, {timeout, Name},
// and {call, From} for calls.
func head(term uint64, terms Terms) (kind string, content, from uint64) {
	first, ok := terms.Head(term)
	if !ok {
		return "", 0, 0
	}
	arity, elements, ok := terms.Tuple(first)
	if !ok || arity != 2 || len(elements) < 2 {
		return "", 0, 0
	}
	if name, ok := terms.Atom(elements[0]); ok {
		if text, _ := terms.Atom(elements[1]); name == "internal" && text == initialState {
			return "", 0, 0
		}
		return name, elements[1], 0
	}
	arity, of, ok := terms.Tuple(elements[0])
	if !ok || arity != 2 || len(of) < 2 {
		return "", elements[1], 0
	}
	kind, _ = terms.Atom(of[0])
	if kind == "call" {
		from = caller(of[1], terms)
	}
	return kind, elements[1], from
}

// caller returns the pid in a From tuple {Pid, Tag}, or 0.
func caller(term uint64, terms Terms) uint64 {
	arity, elements, ok := terms.Tuple(term)
	if !ok || arity != 2 || len(elements) < 2 || !terms.Process(elements[0]) {
		return 0
	}
	return elements[0]
}

// tag returns what a request is called: an atom, or a tuple's first element if
// that is an atom.
func tag(term uint64, terms Terms) string {
	if name, ok := terms.Atom(term); ok {
		return name
	}
	if _, elements, ok := terms.Tuple(term); ok && len(elements) > 0 {
		name, _ := terms.Atom(elements[0])
		return name
	}
	return ""
}
