// Package connections aggregates connections to a VM's listeners: into a profile
// in pprof's format, and into the summary's figures.
//
// A Builder takes events as they come (Add). Nothing here does I/O.
package connections

import (
	"math/rand/v2"
	"net/netip"

	"github.com/beamprof/beamprof/collector/connections"
)

// Bounds of what is kept.
const (
	maxRemotes   = 100_000 // remote addresses; the others are counted together
	maxRows      = 50_000  // different rows of the profile; beyond, only the listener and the ends are kept
	maxLifetimes = 20_000  // of each listener: beyond, a random choice
)

// Builder counts connections. It is not safe for concurrent use.
type Builder struct {
	open      map[*connections.Connection]bool // opened here, and not closed yet
	listeners map[netip.AddrPort]*listener
	remotes   map[netip.Addr]*remote
	rows      map[row]*sum
	rowOrder  []row
	crowded   uint64 // connections whose details were not kept
}

// listener is what happened on one listening address.
type listener struct {
	lifetimes []float64 // seconds, of connections opened and closed
	lived     int       // how many there were
	second    uint64    // the one that is counted
	opened    uint64    // in it
	peak      uint64    // in the busiest second
}

type remote struct{ opened, closed uint64 }

// row is what makes two connections equal.
type row struct {
	listener netip.AddrPort
	remote   netip.Addr // the zero address: many
	end      string     // how it ended: a value of the label closed_by
}

// sum is what rows count.
type sum struct {
	opened, closed int64
	lifetime       int64 // nanoseconds
}

// NewBuilder returns an empty Builder.
func NewBuilder() *Builder {
	return &Builder{
		open: map[*connections.Connection]bool{}, listeners: map[netip.AddrPort]*listener{},
		remotes: map[netip.Addr]*remote{}, rows: map[row]*sum{},
	}
}

// Empty tells whether there was no event.
func (b *Builder) Empty() bool { return len(b.listeners) == 0 }

// Add counts an event. Events of one connection come in the order of their times.
func (b *Builder) Add(e connections.Event) {
	c := e.Connection
	l := b.listener(c.Listener.Address)
	r := b.remote(c.Remote.Addr())
	switch e.Kind {
	case connections.Opened:
		b.open[c] = true
		r.opened++
		l.open(e.Time)
	case connections.Closed:
		r.closed++
		if c.Opened > 0 {
			l.live(float64(c.Closed-c.Opened) / 1e9)
		}
		b.count(c, b.open[c])
		delete(b.open, c)
	}
}

// count adds a connection to the profile's rows: one that ended, or is open.
func (b *Builder) count(c *connections.Connection, opened bool) {
	total := b.row(row{c.Listener.Address, c.Remote.Addr(), end(c)})
	if opened {
		total.opened++
	}
	if c.Closed > 0 {
		total.closed++
		if c.Opened > 0 {
			total.lifetime += int64(c.Closed - c.Opened)
		}
	}
}

func (b *Builder) row(r row) *sum {
	total := b.rows[r]
	if total == nil && len(b.rows) >= maxRows {
		b.crowded++
		r = row{listener: r.listener, end: r.end}
		total = b.rows[r]
	}
	if total == nil {
		total = &sum{}
		b.rows[r] = total
		b.rowOrder = append(b.rowOrder, r)
	}
	return total
}

// How connections end, as the label closed_by says.
const (
	byClient  = "client"
	byServer  = "server"
	byNeither = "neither" // it broke
)

func end(c *connections.Connection) string {
	switch {
	case c.Closed == 0:
		return ""
	case c.By == connections.ClosedByPeer:
		return byClient
	case c.By == connections.ClosedByTarget:
		return byServer
	}
	return byNeither
}

func (b *Builder) listener(address netip.AddrPort) *listener {
	l := b.listeners[address]
	if l == nil {
		l = &listener{}
		b.listeners[address] = l
	}
	return l
}

func (b *Builder) remote(address netip.Addr) *remote {
	r := b.remotes[address]
	if r == nil && len(b.remotes) >= maxRemotes {
		address = netip.Addr{}
		r = b.remotes[address]
	}
	if r == nil {
		r = &remote{}
		b.remotes[address] = r
	}
	return r
}

// open counts a connection in its second.
func (l *listener) open(time uint64) {
	if second := time / 1e9; second != l.second {
		l.second, l.opened = second, 0
	}
	l.opened++
	l.peak = max(l.peak, l.opened)
}

// live takes in a lifetime: all of them, or a random choice.
func (l *listener) live(seconds float64) {
	l.lived++
	if len(l.lifetimes) < maxLifetimes {
		l.lifetimes = append(l.lifetimes, seconds)
	} else if i := rand.IntN(l.lived); i < maxLifetimes {
		l.lifetimes[i] = seconds
	}
}
