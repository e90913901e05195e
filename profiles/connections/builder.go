// Package connections aggregates connections to a VM's listeners: into a profile
// in pprof's format, and into the summary's figures.
//
// A Builder takes events as they come (Add). Nothing here does I/O.
package connections

import (
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"strconv"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/profiles/summary"
)

// Bounds of what is kept.
const (
	maxRemotes    = 100_000 // remote addresses; the others are counted together
	maxClients    = 100_000 // client ids; CONNECTs of others count as those of one client each
	maxRows       = 50_000  // different rows of the profile; beyond, only the listener and the end are kept
	maxClientRows = 25_000  // beyond, new ones do not tell the client
	maxLifetimes  = 20_000  // of each listener: beyond, a random choice
)

// Options say what a profile tells.
type Options struct {
	ClientIDs bool // client ids as they are; otherwise they are hashed
}

// Builder counts connections. It is not safe for concurrent use.
type Builder struct {
	options   Options
	open      map[uint64]*state // connections that events were seen of, and not closed yet
	listeners map[netip.AddrPort]*listener
	remotes   map[netip.Addr]*remote
	clients   map[string]*client
	mqtt      summary.MQTT
	rows      map[row]*sum
	rowOrder  []row
	crowded   uint64 // connections whose details were not kept
}

// state is what is known of a connection besides its fields.
type state struct {
	connections.Connection
	opened   bool // here
	tookOver bool // its client had another one that was open
}

// listener is what happened on one listening address.
type listener struct {
	protocols            map[connections.Protocol]uint64
	withoutConnack       uint64
	lifetimes            []float64 // seconds, of connections opened and closed
	lived                int       // how many there were
	second, opened, peak uint64    // the second that is counted, connections in it and in the busiest one
}

type remote struct{ opened, closed uint64 }

// client is what one client id did.
type client struct {
	connects, withoutConnack, takenOver uint64
	open                                int // connections
}

// row is what makes two connections equal.
type row struct {
	listener netip.AddrPort
	remote   netip.Addr // the zero address: many
	protocol connections.Protocol
	end      string // how it ended: a value of the label closed_by
	version  string // of MQTT
	clean    string // true, false; empty if it is not known
	answer   string // to CONNECT: a value of the label connack
	client   string // id or hash
}

// sum is what rows count.
type sum struct {
	opened, closed, withoutConnack, takenOver int64
	lifetime                                  int64 // nanoseconds
}

// NewBuilder returns an empty Builder.
func NewBuilder(options Options) *Builder {
	return &Builder{
		options: options, open: map[uint64]*state{}, listeners: map[netip.AddrPort]*listener{},
		remotes: map[netip.Addr]*remote{}, clients: map[string]*client{}, mqtt: summary.MQTT{Versions: map[string]uint64{}}, rows: map[row]*sum{},
	}
}

// Next ends the Builder's time, and returns an empty one for what follows that
// knows which connections are open.
func (b *Builder) Next() *Builder {
	next := NewBuilder(b.options)
	for _, c := range b.open {
		next.state(c.Connection)
		if c.Connect != nil {
			next.client(c.Connect).open++
		}
	}
	b.countOpen()
	return next
}

// Empty tells whether there was no event.
func (b *Builder) Empty() bool { return len(b.listeners) == 0 }

// Add counts an event. Events of one connection come in the order of their times.
func (b *Builder) Add(e connections.Event) {
	s := b.state(e.Connection)
	c := &s.Connection
	l := b.listener(c.Listener.Address)
	switch e.Kind {
	case connections.Opened:
		s.opened = true
		b.remote(c.Remote.Addr()).opened++
		l.open(e.Time)
	case connections.Spoke:
		if c.Connect != nil {
			b.connect(s)
		}
	case connections.Answered:
		if c.Connect != nil && c.Connect.Connack {
			b.mqtt.Connacks++
			if c.Connect.Code != 0 {
				b.mqtt.Refused++
			}
		}
	case connections.Closed:
		b.remote(c.Remote.Addr()).closed++
		if c.Opened > 0 {
			l.live(float64(c.Closed-c.Opened) / 1e9)
		}
		if c.Connect != nil {
			b.disconnect(c, l)
		}
		b.count(s)
		delete(b.open, c.ID)
	}
}

// connect counts a CONNECT, and whether it takes over from a connection that is
// open: the broker then closes that one.
func (b *Builder) connect(c *state) {
	b.mqtt.Connects++
	b.mqtt.Versions[c.Connect.Version]++
	if c.Connect.Clean {
		b.mqtt.CleanSession++
	}
	one := b.client(c.Connect)
	if one.connects++; one.connects == 2 {
		b.mqtt.Repeated++
	}
	if one.open > 0 {
		one.takenOver++
		b.mqtt.TakenOver++
		c.tookOver = true
	}
	one.open++
}

func (b *Builder) disconnect(c *connections.Connection, l *listener) {
	one := b.client(c.Connect)
	if one.open--; !c.Connect.Connack {
		one.withoutConnack++
		b.mqtt.WithoutConnack++
		l.withoutConnack++
	}
}

// client returns the client of a CONNECT: one for itself if it has no id of its
// own, or there are too many.
func (b *Builder) client(c *connections.Connect) *client {
	if c.ClientID == "" {
		return &client{}
	}
	one := b.clients[c.ClientID]
	if one == nil {
		one = &client{}
		if len(b.clients) < maxClients {
			b.clients[c.ClientID] = one
		}
	}
	return one
}

// state takes in what a connection is now.
func (b *Builder) state(c connections.Connection) *state {
	s := b.open[c.ID]
	if s == nil {
		s = &state{}
		b.open[c.ID] = s
	}
	s.Connection = c
	return s
}

// count adds a connection to the profile's rows: one that ended, or is open.
func (b *Builder) count(c *state) {
	b.listener(c.Listener.Address).protocols[c.Protocol]++
	total := b.row(b.rowOf(&c.Connection))
	if c.opened {
		total.opened++
	}
	if c.tookOver {
		total.takenOver++
	}
	if c.Closed > 0 {
		total.closed++
		if c.Connect != nil && !c.Connect.Connack {
			total.withoutConnack++
		}
		if c.Opened > 0 {
			total.lifetime += int64(c.Closed - c.Opened)
		}
	}
}

func (b *Builder) row(r row) *sum {
	total := b.rows[r]
	if total == nil && len(b.rows) >= maxClientRows {
		r.client = ""
		total = b.rows[r]
	}
	if total == nil && len(b.rows) >= maxRows {
		b.crowded++
		r = row{listener: r.listener, protocol: r.protocol, end: r.end, answer: r.answer}
		total = b.rows[r]
	}
	if total == nil {
		total = &sum{}
		b.rows[r] = total
		b.rowOrder = append(b.rowOrder, r)
	}
	return total
}

// Values of the labels closed_by and connack.
const (
	byClient  = "client"
	byServer  = "server"
	byNeither = "neither" // it broke

	accepted   = "accepted"
	refused    = "refused"
	unanswered = "none" // none before the close
)

func (b *Builder) rowOf(c *connections.Connection) row {
	r := row{listener: c.Listener.Address, remote: c.Remote.Addr(), protocol: c.Protocol}
	if c.Closed > 0 {
		r.end = map[connections.ClosedBy]string{connections.ClosedByPeer: byClient, connections.ClosedByTarget: byServer, connections.ClosedByNobody: byNeither}[c.By]
	}
	if c.Connect == nil {
		return r
	}
	r.version, r.clean, r.client = c.Connect.Version, strconv.FormatBool(c.Connect.Clean), b.clientName(c.Connect.ClientID)
	switch {
	case c.Connect.Connack && c.Connect.Code == 0:
		r.answer = accepted
	case c.Connect.Connack:
		r.answer = refused
	case c.Closed > 0:
		r.answer = unanswered
	}
	return r
}

// clientName returns what the profile calls a client: its id or a hash of it,
// the same on all nodes.
func (b *Builder) clientName(id string) string {
	if id == "" || b.options.ClientIDs {
		return id
	}
	hash := sha256.Sum256([]byte(id))
	return "client-" + hex.EncodeToString(hash[:6])
}

func (b *Builder) listener(address netip.AddrPort) *listener {
	l := b.listeners[address]
	if l == nil {
		l = &listener{protocols: map[connections.Protocol]uint64{}}
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
