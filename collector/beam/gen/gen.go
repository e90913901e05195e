// Package gen knows where OTP's generic servers keep the request they are
// handling and who asked for it: in the Y registers of their own frames near
// the root of the stack. It works on copies of those frames and of the terms
// they point to.
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
	Type      string // call, cast, info, event, or timeout
	Request   string // tag of the request: an atom, or a tuple's first element
	From      uint64 // pid term of the caller of a call, or 0
}

// form is the form in which a frame holds a request.
type form uint8

const (
	plain   form = iota // the request of a call, as the callback gets it
	message             // the message as it was received
	queue               // a list that begins with {Type, Content}
	event               // an event, as the handlers get it
)

// slots is where one frame of a behaviour holds what we look for. The place of
// each Y register is the compiler's choice: listings of the modules made by
// `erlc -S` show it (the first `allocate` of each clause, and the moves to y).
type slots struct {
	words     int // Y registers of the frame while it waits for the callback
	request   int // number of the Y register
	form      form
	from      int // number of the Y register that holds {Pid, Tag}, or none
	behaviour string
}

const none = -1

// frames are the frames that call the callbacks, from lib/stdlib/src of OTP
// 25.2.3. The number of Y registers tells the clauses of one function apart.
var frames = map[string][]slots{
	"gen_server:handle_msg/6": {
		{10, 3, plain, 4, "gen_server"},
		{6, 5, message, none, "gen_server"},
	},
	"gen_server:handle_msg/7": { // with sys debug options
		{11, 3, plain, 4, "gen_server"},
		{7, 6, message, none, "gen_server"},
	},
	"gen_server:loop/7":                 {{8, 4, message, none, "gen_server"}}, // {continue, _}
	"gen_statem:loop_state_callback/11": {{13, 8, queue, none, "gen_statem"}},
	"gen_fsm:handle_msg/8":              {{11, 8, message, 2, "gen_fsm"}},
	"gen_event:server_update/4":         {{6, 3, event, none, "gen_event"}},
	"gen_event:server_call_update/3":    {{6, 3, plain, none, "gen_event"}},
}

// IsFrame tells whether a function is one of those that call a behaviour's callbacks.
func IsFrame(function string) bool {
	_, ok := frames[function]
	return ok
}

// Decode returns the request that a frame of a behaviour is handling. y are the
// frame's Y registers. ok is false if the function or the clause is not known.
func Decode(function string, y []uint64, terms Terms) (call Call, ok bool) {
	for _, s := range frames[function] {
		if s.words != len(y) {
			continue
		}
		call = Call{Behaviour: s.behaviour}
		request := y[s.request]
		switch s.form {
		case plain:
			call.Type = "call"
		case event:
			call.Type = "event"
		case message:
			call.Type, request, call.From = unwrap(request, terms)
		case queue:
			call.Type, request, call.From = head(request, terms)
		}
		if s.from != none {
			if from := caller(y[s.from], terms); from != 0 {
				call.From = from
			}
		}
		call.Request = tag(request, terms)
		return call, true
	}
	return Call{}, false
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
	"continue":                  {"continue", 2, 0, 1},
}

// unwrap takes a received message apart.
func unwrap(term uint64, terms Terms) (kind string, request, from uint64) {
	arity, elements, ok := terms.Tuple(term)
	if !ok {
		return "info", term, 0
	}
	name, _ := terms.Atom(elements[0])
	w, ok := wrappers[name]
	if !ok || arity != w.arity || len(elements) <= w.request {
		return "info", term, 0
	}
	if w.from > 0 {
		from = caller(elements[w.from], terms)
	}
	return w.kind, elements[w.request], from
}

// head takes gen_statem's queue of events apart: [{Type, Content} | _] with
// Type one of cast, info, timeout, ..., and {call, From} for calls.
func head(term uint64, terms Terms) (kind string, content, from uint64) {
	first, ok := terms.Head(term)
	if !ok {
		return "", 0, 0
	}
	arity, elements, ok := terms.Tuple(first)
	if !ok || arity != 2 {
		return "", 0, 0
	}
	if name, ok := terms.Atom(elements[0]); ok {
		return name, elements[1], 0
	}
	arity, of, ok := terms.Tuple(elements[0])
	if !ok || arity != 2 {
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
	if !ok || arity != 2 || !terms.Process(elements[0]) {
		return 0
	}
	return elements[0]
}

// tag returns what a request is called: an atom, or a tuple's first element.
func tag(term uint64, terms Terms) string {
	if name, ok := terms.Atom(term); ok {
		return name
	}
	if _, elements, ok := terms.Tuple(term); ok {
		name, _ := terms.Atom(elements[0])
		return name
	}
	return ""
}
