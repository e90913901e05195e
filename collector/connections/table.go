package connections

import (
	"net/netip"

	"github.com/beamprof/beamprof/bpf"
)

// ClosedBy is who ended a connection first.
type ClosedBy uint8

// The ends.
const (
	ClosedByNobody ClosedBy = bpf.ClosedByNobody // still open, or it broke
	ClosedByPeer   ClosedBy = bpf.ClosedByPeer
	ClosedByTarget ClosedBy = bpf.ClosedByTarget
)

// Connection is one connection to a listener. Times are nanoseconds of CLOCK_MONOTONIC.
type Connection struct {
	ID       uint64 // of no other connection of the session
	Listener *Listener
	Remote   netip.AddrPort
	Opened   uint64 // 0: before the session
	Closed   uint64 // 0: not yet; when the first end closed it
	By       ClosedBy
	Protocol Protocol
	Connect  *Connect // nil unless an MQTT client's was seen
}

// EventKind is what happened to a connection.
type EventKind uint8

// The kinds of events. A connection speaks, and is answered, once at most.
const (
	Opened   EventKind = iota
	Spoke              // the client; Protocol and Connect are known from here on
	Answered           // the server; Connect has its answer
	Closed
)

// Event is something that happened to a connection.
type Event struct {
	Kind       EventKind
	Time       uint64     // nanoseconds of CLOCK_MONOTONIC
	Connection Connection // as it is after this
}

// Bounds of what is followed at one time. Connections beyond are counted in the
// totals, and as opened before the session when they close.
const (
	maxOpen  = 1 << 20
	maxEarly = 1024
)

// early is how long before its connection something may have been said: with the
// packet that completes it.
const early = 1e9

// table has the connections that were opened in the session and are open.
type table struct {
	listeners *listeners
	open      map[bpf.Endpoints]*Connection
	early     map[bpf.Endpoints]record // said before the connection was there
	last      uint64                   // ID
}

func newTable(l *listeners) *table {
	return &table{listeners: l, open: map[bpf.Endpoints]*Connection{}, early: map[bpf.Endpoints]record{}}
}

// add takes in a record and hands on what it means.
func (t *table) add(r *record, handle func(Event)) {
	if r.speech != nil {
		t.said(r, handle)
		return
	}
	if r.Event == bpf.ListenerOpened {
		// An error means that there are too many: those connections are not counted.
		_ = t.listeners.add(netip.AddrPortFrom(netip.AddrFrom16(r.Ends.Local).Unmap(), r.Ends.LocalPort), false, true)
		return
	}
	listener := t.listeners.byNumber[r.Listener]
	if listener == nil {
		return
	}
	c := &Connection{ID: t.last + 1, Listener: listener, Remote: netip.AddrPortFrom(netip.AddrFrom16(r.Ends.Remote).Unmap(), r.Ends.RemotePort), Protocol: ProtocolUnknown}
	switch r.Event {
	case bpf.ConnectionOpened:
		t.last++
		c.Opened = r.Time
		if len(t.open) < maxOpen {
			t.open[r.Ends] = c
		}
		handle(Event{Opened, r.Time, *c})
		if said, ok := t.early[r.Ends]; ok {
			delete(t.early, r.Ends)
			if said.Time+early > r.Time {
				t.said(&said, handle)
			}
		}
	case bpf.ConnectionClosed:
		if known := t.open[r.Ends]; known != nil {
			c = known
			delete(t.open, r.Ends)
		} else {
			t.last++
		}
		c.Closed, c.By = r.Time, ClosedBy(r.By)
		handle(Event{Closed, r.Time, *c})
	}
}

// said takes in what was said first, by either side.
func (t *table) said(r *record, handle func(Event)) {
	c := t.open[r.Ends]
	if c == nil {
		if len(t.early) >= maxEarly {
			clear(t.early)
		}
		t.early[r.Ends] = *r
		return
	}
	if r.Type == bpf.RecordSpoke {
		c.Protocol, c.Connect = r.speech.protocol(), r.speech.connect()
		handle(Event{Spoke, r.Time, *c})
		return
	}
	switch {
	case c.Connect != nil:
		answered := *c.Connect // the one handed out stays as it is
		answered.Code, answered.Connack = r.speech.connack()
		c.Connect = &answered
	case c.Protocol == ProtocolHTTP && r.speech.upgraded():
		c.Protocol = ProtocolWebSocket
	}
	handle(Event{Answered, r.Time, *c})
}
