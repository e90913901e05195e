package distribution

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/beam"
)

// The worked example of the External Term Format's description ("Distribution
// Header for fragmented messages"): {call, <0.245.2>, {set_get_state, <<0:1024>>}}
// is sent to reg, cut after 128 bytes of it.
var (
	exampleFirst = append([]byte{
		131, 69, 0, 0, 2, 168, 0, 0, 5, 83, 0, 0, 0, 0, 0, 0, 0, 2,
		5, 4, 137, 9, 10, 5, 236, 3, 114, 101, 103, 9, 4, 99, 97, 108, 108,
		238, 13, 115, 101, 116, 95, 103, 101, 116, 95, 115, 116, 97, 116, 101,
		104, 4, 97, 6, 103, 82, 0, 0, 0, 0, 85, 0, 0, 0, 0, 2, 82, 1, 82, 2,
		104, 3, 82, 3, 103, 82, 0, 0, 0, 0, 245, 0, 0, 0, 2, 2,
		104, 2, 82, 4, 109, 0, 0, 0, 128}, make([]byte, 103)...)
	exampleSecond = append([]byte{131, 70, 0, 0, 2, 168, 0, 0, 5, 83, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 25)...)
)

// known are the atoms of the example that were sent before.
func known(word uint64) (string, bool) {
	text, ok := map[uint64]string{10: "sender@host", 5: ""}[word]
	return text, ok
}

func TestWorkedExample(t *testing.T) {
	p, ok := parsePacket(exampleFirst, []uint64{10, 5, 0, 0, 0}, known)
	if !ok || p.unknown != 1 { // the empty atom
		t.Fatalf("%+v, %v", p, ok)
	}
	terms := externalTerms{data: p.terms, atoms: p.atoms, left: maxTerms, ownPID: func(node string, number, serial uint32) uint64 {
		if node != "sender@host" {
			t.Errorf("node %q", node)
		}
		return uint64(number)<<8 | uint64(serial)
	}}
	control := terms.next()
	if _, o, ok := findOperation(control); !ok || o.name != "reg_send" || !control.element(4).isAtom("reg") || control.element(2).pid != 85<<8 {
		t.Errorf("control message: %+v", control)
	}
	message := terms.next()
	if !message.isTuple(3) || !message.element(1).isAtom("call") || message.element(2).pid != 245<<8|2 || !message.element(3).element(1).isAtom("set_get_state") {
		t.Errorf("message: %+v", message)
	}
	if kind, request := describe(message); kind != "info" || request != "call" {
		t.Errorf("%s %s", kind, request)
	}
	if _, ok := parsePacket(exampleSecond, nil, known); ok {
		t.Error("a further fragment has a header of its own")
	}
	// Cut anywhere it is less, never wrong, never a crash.
	for n := range exampleFirst {
		p, ok := parsePacket(exampleFirst[:n], nil, known)
		if !ok {
			continue
		}
		terms := externalTerms{data: p.terms, atoms: p.atoms, left: maxTerms}
		if _, o, ok := findOperation(terms.next()); ok && o.name != "reg_send" {
			t.Errorf("%d bytes: %s", n, o.name)
		}
	}
}

func atom(text string) term { return term{kind: termAtom, atom: text} }
func integer(n int64) term  { return term{kind: termInteger, number: n} }
func tuple(elements ...term) term {
	return term{kind: termTuple, arity: len(elements), elements: elements}
}
func list(elements ...term) term { return term{kind: termList, elements: elements} }

// Every operation is told by its number and the size of its tuple.
func TestOperations(t *testing.T) {
	names := map[string]bool{}
	for number, o := range operations {
		if o.name == "" {
			if _, _, ok := findOperation(tuple(integer(int64(number)), integer(0), integer(0))); ok {
				t.Errorf("operation %d has no name", number)
			}
			continue
		}
		if names[o.name] || o.to > o.arity || o.arity > 7 {
			t.Errorf("%d: %+v", number, o)
		}
		names[o.name] = true
		elements := []term{integer(int64(number))}
		for len(elements) < o.arity {
			elements = append(elements, integer(0))
		}
		if n, got, ok := findOperation(tuple(elements...)); !ok || n != number || got != o {
			t.Errorf("%d: %+v, %v", number, got, ok)
		}
		if _, _, ok := findOperation(tuple(append(elements, integer(0))...)); ok {
			t.Errorf("%s with an element too much", o.name)
		}
	}
	if len(names) != 31 {
		t.Errorf("%d operations", len(names))
	}
	if _, _, ok := findOperation(tuple(integer(37), integer(2), integer(0), atom("x"), integer(0))); !ok {
		t.Error("altact_sig_send with a trace token")
	}
	for _, bad := range []term{{}, atom("x"), tuple(), tuple(atom("x")), tuple(integer(-1)), tuple(integer(1 << 40))} {
		if _, _, ok := findOperation(bad); ok {
			t.Errorf("%+v is an operation", bad)
		}
	}
}

func TestDescribe(t *testing.T) {
	from := tuple(term{kind: termPID}, term{kind: termReference})
	apply := tuple(atom("apply"), atom("vmq_swc_store"), atom("rpc_broadcast"), list())
	for _, test := range []struct {
		message       term
		kind, request string
	}{
		{tuple(atom("$gen_call"), from, apply), "call", "apply vmq_swc_store:rpc_broadcast"},
		{tuple(atom("$gen_cast"), apply), "cast", "apply vmq_swc_store:rpc_broadcast"},
		{tuple(atom("$gen_call"), from, atom("get")), "call", "get"},
		{tuple(atom("$gen_call"), from, tuple(atom("call"), atom("Elixir.Enum"), atom("map"), list(), term{kind: termPID})), "call", "call Enum.map"},
		{tuple(atom("$gen_call"), from, tuple(integer(1))), "call", ""},
		{tuple(term{kind: termReference}, atom("ok")), "reply", ""},
		{tuple(list(atom("alias")), atom("ok")), "reply", ""},
		{tuple(atom("$gen_event"), tuple(atom("notice"), atom("x"))), "event", "notice"},
		{tuple(atom("DOWN"), term{}, atom("process"), term{}, atom("x")), "info", "DOWN"},
		{atom("hello"), "info", "hello"},
		{atom("\x1b[2J"), "info", "\uFFFD[2J"},
		{term{}, "", ""},
		{integer(1), "", ""},
	} {
		if kind, request := describe(test.message); kind != test.kind || request != test.request {
			t.Errorf("%+v: %q, %q", test.message, kind, request)
		}
	}
}

func TestSpawned(t *testing.T) {
	function := func(m, f string, a int64) term { return tuple(atom(m), atom(f), integer(a)) }
	for _, test := range []struct {
		function, arguments  term
		destination, request string
	}{
		{function("lists", "map", 2), list(), "lists:map/2", ""},
		{function("erpc", "execute_call", 4), list(term{kind: termReference}, atom("file"), atom("get_cwd"), list()), "erpc:execute_call/4", "apply file:get_cwd"},
		{function("erpc", "execute_cast", 3), list(atom("file"), atom("get_cwd"), list()), "erpc:execute_cast/3", "apply file:get_cwd"},
		{function("erpc", "execute_call", 4), list(), "erpc:execute_call/4", ""},
		{function("erlang", "apply", 2), list(term{kind: termFun, atom: "m"}, list()), "m:fun", ""},
		{tuple(atom("x")), list(), "", ""},
	} {
		if destination, request := spawned(test.function, test.arguments); destination != test.destination || request != test.request {
			t.Errorf("%q, %q, not %q, %q", destination, request, test.destination, test.request)
		}
	}
}

// All terms come through, whatever is before them.
func TestExternalTerms(t *testing.T) {
	ref := []byte{90, 0, 3, 82, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9}
	for name, data := range map[string][]byte{
		"integers":    {97, 1, 98, 255, 255, 255, 255},
		"floats":      append(append([]byte{70}, make([]byte, 8)...), append([]byte{99}, make([]byte, 31)...)...),
		"big":         {110, 1, 0, 5, 111, 0, 0, 0, 1, 1, 5},
		"string":      {107, 0, 2, 1, 2},
		"binaries":    {109, 0, 0, 0, 2, 1, 2, 77, 0, 0, 0, 1, 3, 1},
		"lists":       {106, 108, 0, 0, 0, 1, 97, 1, 106},
		"map":         {116, 0, 0, 0, 1, 97, 1, 97, 2},
		"ports":       {102, 82, 0, 0, 0, 0, 1, 1, 89, 82, 0, 0, 0, 0, 1, 0, 0, 0, 1, 120, 82, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1},
		"references":  append([]byte{101, 82, 0, 0, 0, 0, 1, 1, 114, 0, 1, 82, 0, 1, 0, 0, 0, 1}, ref...),
		"export":      {113, 82, 0, 82, 0, 97, 1},
		"fun":         append(append([]byte{112, 0, 0, 0, 33, 0}, make([]byte, 24)...), 82, 0, 106, 106),
		"large tuple": {105, 0, 0, 0, 1, 97, 1},
		"atoms":       {100, 0, 1, 'a', 115, 1, 0xe9, 118, 0, 1, 'a', 119, 1, 'a'},
	} {
		terms := externalTerms{data: append(append([]byte{}, data...), 97, 42), atoms: []string{"node"}, left: maxTerms}
		last := term{}
		for len(terms.data) > 0 && !terms.bad {
			last = terms.next()
		}
		if terms.bad || last.number != 42 {
			t.Errorf("%s: what follows is %+v, %v", name, last, terms.bad)
		}
	}
	terms := externalTerms{data: ref, left: maxTerms}
	if got := terms.next(); got.ref != [3]uint32{7, 8, 9} {
		t.Errorf("reference %v", got.ref)
	}
	alias := append([]byte{108, 0, 0, 0, 1, 119, 5, 'a', 'l', 'i', 'a', 's'}, ref...)
	terms = externalTerms{data: alias, left: maxTerms}
	if got := terms.next(); got.ref != [3]uint32{7, 8, 9} || !isReply(got) {
		t.Errorf("alias %+v", got)
	}
	// Nested deeper than anything is: it ends.
	deep := bytes.Repeat([]byte{104, 1}, 10_000)
	terms = externalTerms{data: deep, left: maxTerms}
	if terms.next(); !terms.bad {
		t.Error("no end of depth")
	}
}

func FuzzPacket(f *testing.F) {
	f.Add(exampleFirst)
	f.Add(exampleSecond)
	f.Add([]byte{112, 131, 104, 3, 97, 2, 106, 106, 131, 97, 1})
	f.Add([]byte{131, 68, 2, 0x98, 0x01, 1, 0, 1, 'a', 2, 104, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := parsePacket(data, []uint64{10, 5}, known)
		if !ok {
			return
		}
		terms := externalTerms{data: p.terms, atoms: p.atoms, left: maxTerms}
		control := terms.next()
		content := terms.next()
		findOperation(control)
		describe(content)
		spawned(control.element(5), content)
	})
}

func FuzzHeap(f *testing.F) {
	f.Add(make([]byte, 3*heapTermSize), uint64(2))
	f.Fuzz(func(t *testing.T, bytes []byte, word uint64) {
		heap := heapTerms{bytes: bytes, atom: known, left: maxTerms}
		describe(heap.term(word, 0))
	})
}

func FuzzRecord(f *testing.F) {
	f.Add(make([]byte, messageHeadSize))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r record
		if r.parse(raw) == nil && len(r.data) > len(raw) {
			t.Error("more than there is")
		}
	})
}

// packetOf is a record of one packet of a received message; the first one of a
// message comes with data, the last one has the fragment number 1.
func packetOf(sequence, fragment, bytes uint64, first bool) []byte {
	r := record{Message: bpf.Message{Type: bpf.RecordReceived, Sequence: sequence, Fragment: fragment, Bytes: bytes}}
	if first {
		r.DataLength, r.Payload = 8, 8
	}
	raw := slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&r.Message)), messageHeadSize))
	return append(raw, make([]byte, r.Payload)...)
}

// What a process sends comes in packets of one sequence, one message after the
// other. A last packet that was not copied loses no message.
func TestPackets(t *testing.T) {
	d := &decoder{target: &beam.Target{}, open: map[sequence]*Message{}}
	var got []uint64
	for _, raw := range [][]byte{
		packetOf(0, 0, 70, true), // all of a message
		packetOf(5, 3, 100, true), packetOf(5, 2, 100, false), packetOf(5, 1, 30, false),
		packetOf(5, 3, 100, true), packetOf(5, 2, 100, false),
		packetOf(5, 2, 100, true), packetOf(6, 2, 10, true), packetOf(5, 1, 20, false), packetOf(6, 1, 1, false),
		packetOf(5, 1, 20, false), // of one whose first packet was not copied
		packetOf(7, 4, 100, true), packetOf(7, 3, 100, false),
	} {
		if m := d.decode(raw); m != nil {
			got = append(got, m.Bytes)
		}
	}
	for _, m := range d.cut() {
		got = append(got, m.Bytes)
	}
	if want := []uint64{70, 230, 300, 120, 11, 400}; !slices.Equal(got, want) || d.bad+d.lost > 0 {
		t.Errorf("messages of %d bytes, not %d; %d bad, %d lost", got, want, d.bad, d.lost)
	}
}
