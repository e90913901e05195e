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
	Listener *Listener
	Remote   netip.AddrPort
	Opened   uint64 // 0: before the session
	Closed   uint64 // 0: not yet; when the first end closed it
	By       ClosedBy
}

// EventKind is what happened to a connection.
type EventKind uint8

// The kinds of events.
const (
	Opened EventKind = iota
	Closed
)

// Event is something that happened to a connection.
type Event struct {
	Kind       EventKind
	Time       uint64 // nanoseconds of CLOCK_MONOTONIC
	Connection *Connection
}

// maxOpen bounds the connections that are followed at one time. Others are
// counted in the totals, and as opened before the session when they close.
const maxOpen = 1 << 20

// table has the connections that were opened in the session and are open.
type table struct {
	listeners *listeners
	open      map[bpf.Endpoints]*Connection
}

func newTable(l *listeners) *table {
	return &table{listeners: l, open: map[bpf.Endpoints]*Connection{}}
}

// add takes in a record and hands on what it means.
func (t *table) add(r *record, handle func(Event)) {
	if r.Event == bpf.ListenerOpened {
		// An error means that there are too many: those connections are not counted.
		_ = t.listeners.add(netip.AddrPortFrom(netip.AddrFrom16(r.Ends.Local).Unmap(), r.Ends.LocalPort), false, true)
		return
	}
	listener := t.listeners.byNumber[r.Listener]
	if listener == nil {
		return
	}
	switch r.Event {
	case bpf.ConnectionOpened:
		c := &Connection{Listener: listener, Remote: remote(r), Opened: r.Time}
		if len(t.open) < maxOpen {
			t.open[r.Ends] = c
		}
		handle(Event{Opened, r.Time, c})
	case bpf.ConnectionClosed:
		c := t.open[r.Ends]
		if c == nil {
			c = &Connection{Listener: listener, Remote: remote(r)}
		}
		delete(t.open, r.Ends)
		c.Closed, c.By = r.Time, ClosedBy(r.By)
		handle(Event{Closed, r.Time, c})
	}
}

func remote(r *record) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(r.Ends.Remote).Unmap(), r.Ends.RemotePort)
}
