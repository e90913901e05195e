package distribution

import (
	"encoding/binary"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/ordered"
	"github.com/beamprof/beamprof/collector/sampler"
)

// What a message is called as far as its parts have no name.
const (
	Unknown       = "unknown"                 // could not be read
	OtherProcess  = "process of another node" // whose name this node does not know
	ProcessIsGone = "process that is gone"
	Alias         = "alias of a process" // whose reference was not seen before
)

// Message is a message between the VM and another node.
type Message struct {
	Time        uint64 // nanoseconds of CLOCK_MONOTONIC
	Node        string // the other one; empty if its name could not be read
	Received    bool
	Bytes       uint64  // before TLS, with what frames it
	Weight      float64 // messages that this one stands for, 1 at least
	Operation   string  // "reg_send", ...
	Destination string  // registered name, kind of the process, or what is spawned
	RequestType string  // call, cast, event, reply or info; empty if it is no message to a process
	Request     string  // its tag, down to the function it applies
	// Sender is the process that sends, with its stack. It is valid only during
	// the callback, and nil for what is received or what no process sends.
	Sender *collector.Sample

	on   carrier
	rest uint64 // bytes that are still to come, about
}

// decoder turns records into messages. It is used from one goroutine.
type decoder struct {
	target *beam.Target
	stacks *sampler.Stacks
	people *people
	open   map[sequence]*Message // received in part
	asked  *lru.Cache[question, answer]
	spawns spawns
	record record
	head   [beam.HeadSize]byte // of the process, as far as it was copied
	terms  []byte              // of the record, as the names of stacks take them
	bad    uint64              // records that make no sense
	lost   uint64              // messages whose last packet did not come
}

// sequence tells the packets of one message from those of others.
type sequence struct {
	entry      uint64
	connection uint32
	number     uint64
}

// question is a call that will be replied to, told by its reference.
type question struct {
	node string // that made the reference; empty: this one
	ref  ref
}

// answer is what is known of a reply before it comes.
type answer struct{ request, asker string }

// maxFragments bounds the packets that a message may have: 64 GiB.
const maxFragments = 1 << 20

// maxAsked bounds the calls under way that are remembered.
const maxAsked = 1 << 14

// maxOpen bounds the messages received in part: each process of each node may
// have one under way.
const maxOpen = 1 << 14

func newDecoder(target *beam.Target) *decoder {
	return &decoder{
		target: target, stacks: sampler.NewStacks(target), people: newPeople(target), open: map[sequence]*Message{},
		asked: newCache[question, answer](maxAsked), spawns: newSpawns(),
	}
}

func newCache[K comparable, V any](size int) *lru.Cache[K, V] {
	cache, err := lru.New[K, V](size)
	if err != nil { // the size is positive
		panic(err)
	}
	return cache
}

// count counts what records are copies of.
func (d *decoder) count(records []ordered.Record) map[carrier]copies {
	all := map[carrier]copies{}
	r := &d.record
	for _, one := range records {
		if r.parse(one.Bytes) != nil {
			continue
		}
		key := carrier{connectionKey{r.Entry, r.Connection}, r.Type == bpf.RecordReceived}
		n := all[key]
		switch {
		case !key.received:
			n.packets += min(r.Fragment, maxFragments)
			n.messages++
		case r.further():
			n.packets++
		default:
			n.packets++
			n.messages++
		}
		all[key] = n
	}
	return all
}

// decode turns a record into a message, or nil if it is only a part of one.
func (d *decoder) decode(raw []byte) *Message {
	if err := d.record.parse(raw); err != nil {
		d.bad++
		return nil
	}
	r := &d.record
	if r.Type == bpf.RecordSent {
		return d.sent(r)
	}
	key := sequence{r.Entry, r.Connection, r.Sequence}
	if r.further() {
		m := d.open[key]
		if m == nil {
			return nil // its first one was not copied
		}
		m.Bytes += r.Bytes
		m.rest -= min(r.Bytes, m.rest)
		if r.Fragment > 1 {
			return nil
		}
		delete(d.open, key)
		return m
	}
	m := d.received(r)
	if r.Fragment <= 1 {
		return m
	}
	// All but the last are of one size.
	if r.Fragment-1 < maxFragments {
		m.rest = (r.Fragment - 1) * r.Bytes
	}
	if len(d.open) >= maxOpen {
		d.lost += uint64(len(d.open))
		clear(d.open)
	}
	// A process sends one message after the other: of the one before, the last
	// packet was not copied.
	before := d.open[key]
	if before != nil {
		before.Bytes += before.rest
	}
	d.open[key] = m
	return before
}

// cut returns the messages received in part, with the bytes that they should
// have had: no more of them is seen.
func (d *decoder) cut() []*Message {
	var all []*Message
	for _, m := range d.open {
		m.Bytes += m.rest
		all = append(all, m)
	}
	clear(d.open)
	return all
}

func (d *decoder) message(r *record) *Message {
	node, _ := d.target.Atom(r.Node)
	received := r.Type == bpf.RecordReceived
	return &Message{
		Time: r.Time, Node: node, Received: received, Bytes: r.Bytes, Weight: 1, Operation: Unknown, Destination: Unknown,
		on: carrier{connectionKey{r.Entry, r.Connection}, received},
	}
}

func (d *decoder) sent(r *record) *Message {
	m := d.message(r)
	heap := heapTerms{bytes: r.terms, atom: d.target.Atom, left: maxTerms}
	control := heap.term(r.Control, 0)
	var content term
	if r.Term != 0 {
		content = heap.term(r.Term, 0)
	}
	if r.Process != 0 {
		m.Sender = d.stacks.Sample(&sampler.Copy{
			Time: r.Time, TID: int(r.Tid), Leaf: r.Leaf, Process: r.Process,
			Head: d.processHead(r), RootAt: r.Root, Root: r.root, TopAt: r.Top, Top: r.top, Terms: d.stackTerms(r.terms),
		})
		m.Sender.Process = d.spawns.name(r.Words[0], m.Sender.Process)
	}
	d.name(m, control, content)
	return m
}

// processWords are the offsets of those words of struct process that are copied:
// all that a process is named by, and where its stack begins.
func processWords(l *beam.ProcessLayout) [len(bpf.Message{}.Words)]uint32 {
	initial := uint32(l.Initial)
	return [...]uint32{uint32(l.ID), uint32(l.Registered), uint32(l.Dictionary), uint32(l.Parent), initial, initial + 8, initial + 16, uint32(l.Stop)}
}

// processHead returns the head of a record's process, with what was copied of it
// in its places.
func (d *decoder) processHead(r *record) []byte {
	for i, at := range processWords(&d.target.Layout.Process) {
		binary.NativeEndian.PutUint64(d.head[at:], r.Words[i])
	}
	return d.head[:]
}

// stackWords is how many words of a term the names of stacks take: the term
// itself and five of what it points to (sampler.Copy).
const stackWords = 6

// stackTerms returns the terms of a record as the names of stacks take them.
func (d *decoder) stackTerms(terms []byte) []byte {
	d.terms = d.terms[:0]
	for ; len(terms) >= heapTermSize; terms = terms[heapTermSize:] {
		d.terms = append(d.terms, terms[:8*stackWords]...)
	}
	return d.terms
}

func (d *decoder) received(r *record) *Message {
	m := d.message(r)
	p, ok := parsePacket(r.data, r.atoms, d.target.Atom)
	if !ok {
		return m
	}
	terms := externalTerms{data: p.terms, atoms: p.atoms, left: maxTerms, ownPID: d.ownPID}
	control := terms.next()
	d.name(m, control, terms.next())
	return m
}

// ownPID returns the pid of a process of this VM.
func (d *decoder) ownPID(node string, number, serial uint32) uint64 {
	if node != d.target.Node {
		return 0
	}
	pid, _ := d.target.PIDTerm(number, serial)
	return pid
}

// name says what a message is by its two terms.
func (d *decoder) name(m *Message, control, content term) {
	number, o, ok := findOperation(control)
	if !ok {
		return
	}
	m.Operation = o.name
	to := control.element(o.to)
	if number == operationSpawnRequest || number == operationSpawnRequestTT {
		if destination, request := spawned(to, content); destination != "" {
			m.Destination, m.Request, m.RequestType = destination, request, "spawn"
			if m.Received {
				d.spawns.request(question{m.Node, control.element(2).ref}, destination)
			}
			if m.Request != "" {
				d.ask(m, control.element(2).ref)
			}
		}
		return
	}
	if !m.Received && (number == operationSpawnReply || number == operationSpawnReplyTT) {
		d.spawns.reply(question{m.Node, control.element(2).ref}, control.element(5).pid)
	}
	m.Destination = d.destination(to, m.Received)
	switch o.name { // the others carry reasons of exits
	case "monitor_p_exit":
		content = control.element(5)
		fallthrough
	case "payload_monitor_p_exit":
		if isResult(content) {
			m.RequestType = "reply"
			d.reply(m, control.element(4).ref)
		}
		return
	case "send", "send_tt", "reg_send", "reg_send_tt", "send_sender", "send_sender_tt", "alias_send", "alias_send_tt", "altact_sig_send":
		m.RequestType, m.Request = describe(content)
	}
	switch m.RequestType {
	case "call":
		d.ask(m, content.element(2).element(2).ref)
	case "reply":
		d.reply(m, content.element(1).ref)
	}
}

// ask remembers a call by the reference that its reply will have.
func (d *decoder) ask(m *Message, r ref) {
	if r == (ref{}) {
		return
	}
	a := answer{request: m.Request}
	q := question{ref: r}
	if m.Received {
		q.node = m.Node
	} else if m.Sender != nil && m.Sender.Process != nil {
		a.asker = m.Sender.Process.Kind
	}
	d.asked.Add(q, a)
}

// reply names a reply by the call that it is for.
func (d *decoder) reply(m *Message, r ref) {
	q := question{ref: r}
	if !m.Received {
		q.node = m.Node
	}
	a, ok := d.asked.Get(q)
	if !ok {
		return
	}
	d.asked.Remove(q)
	m.Request = a.request
	if m.Received && a.asker != "" {
		m.Destination = a.asker
	}
}

// destination names the receiver of a message.
func (d *decoder) destination(to term, received bool) string {
	switch {
	case to.kind == termAtom && to.atom != "":
		return printable(to.atom)
	case to.kind != termPID && to.kind != termReference:
		return Unknown
	case !received:
		return OtherProcess
	case to.kind == termReference:
		return Alias
	case to.pid == 0:
		return Unknown
	}
	if process := d.people.find(to.pid); process != nil {
		return process.Kind
	}
	return ProcessIsGone
}
