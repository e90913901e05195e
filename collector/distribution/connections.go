package distribution

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sockets"
)

// connection is a connection of the VM to another node.
type connection struct {
	node     string
	known    bool // the socket is
	before   bool // it was there when counting began
	closed   bool // its socket is gone: the counts are final
	socket   sockets.Socket
	base     sockets.Socket // as it was when counting began
	packets  counts         // as the VM counts, ticks and fragments
	existing counts         // those before counting began
}

// counts are one number for each direction.
type counts struct{ sent, received uint64 }

// connectionKey tells the connections of one VM apart.
type connectionKey struct {
	entry uint64
	id    uint32
}

// connections follows the VM's connections to other nodes and their sockets:
// the VM's own list says which there are, the kernel how much they carried.
type connections struct {
	target  *beam.Target
	kernel  *sockets.Namespace
	people  *people
	known   map[connectionKey]*connection
	order   []connectionKey
	cookies map[uint64]*connection
	ports   map[uint16]bool // where other nodes connect to this one
	peers   map[peerAddress]string
	short   map[string]*connection // too short to be seen in the VM's list, by node
	missed  uint64                 // times that closed sockets may have been missed
	noBytes error                  // why sockets are not known: sockets.ErrUnlisted
}

// peerAddress is where another node listens.
type peerAddress struct {
	address string
	port    uint16
}

func newConnections(target *beam.Target, kernel *sockets.Namespace) *connections {
	return &connections{
		target: target, kernel: kernel, people: newPeople(target), known: map[connectionKey]*connection{}, cookies: map[uint64]*connection{},
		ports: map[uint16]bool{}, peers: map[peerAddress]string{}, short: map[string]*connection{},
	}
}

// begin takes what there is as the base of all counts.
func (c *connections) begin() error {
	c.findListeners()
	if err := c.follow(true); err != nil {
		return err
	}
	return c.narrow()
}

// narrow has the kernel tell of closed sockets only if lost has a use for them:
// a host closes many, and each would wake this process up.
func (c *connections) narrow() error {
	var ports sockets.Ports
	for port := range c.ports {
		ports.Local = append(ports.Local, port)
	}
	for peer := range c.peers {
		ports.Remote = append(ports.Remote, peer.port)
	}
	return c.kernel.Only(ports)
}

// findListeners finds where the VM accepts other nodes: net_kernel owns the
// listening sockets of the distribution (inet_tcp_dist:listen/3).
func (c *connections) findListeners() {
	all, err := c.target.Sockets()
	if err != nil {
		return
	}
	inodes := map[uint32]bool{}
	for _, s := range all {
		owner := c.people.find(s.Connected)
		if owner == nil || owner.RegisteredName != "net_kernel" {
			continue
		}
		if inode, err := sockets.Inode(c.target.PID, s.Descriptor); err == nil {
			inodes[inode] = true
		}
	}
	if len(inodes) == 0 {
		return
	}
	found, err := c.kernel.Find(inodes)
	if err != nil {
		return
	}
	for _, s := range found {
		if s.State == sockets.Listen {
			c.ports[s.ID.LocalPort()] = true
		}
	}
}

// follow looks for connections that came. first says that they are not new.
func (c *connections) follow(first bool) error {
	list, err := c.target.Connections()
	if err != nil && len(list) == 0 {
		return err
	}
	inodes := map[uint32]bool{}
	waiting := map[uint32]*connection{}
	for _, one := range list {
		key := connectionKey{one.Entry, one.ID}
		known := c.known[key]
		if known == nil {
			known = &connection{node: one.Node, before: first}
			if first {
				known.existing = counts{one.Sent, one.Received}
			}
			c.known[key] = known
			c.order = append(c.order, key)
		}
		known.packets = counts{one.Sent, one.Received}
		if known.known {
			continue
		}
		owned, err := c.target.ControllerSocket(one)
		if err != nil {
			continue
		}
		if inode, err := sockets.Inode(c.target.PID, owned.Descriptor); err == nil {
			inodes[inode] = true
			waiting[inode] = known
		}
	}
	if len(inodes) == 0 {
		return nil
	}
	// One that closes between Find and narrow is heard of as well.
	if err := c.kernel.All(); err != nil {
		return err
	}
	found, err := c.kernel.Find(inodes)
	if errors.Is(err, sockets.ErrUnlisted) {
		c.noBytes, err = err, nil // messages are told without
	}
	for inode, s := range found {
		c.connect(waiting[inode], s)
	}
	return errors.Join(err, c.narrow())
}

// connect notes the socket of a connection.
func (c *connections) connect(to *connection, s sockets.Socket) {
	to.known, to.socket = true, s
	if to.before {
		to.base = s
	}
	c.cookies[s.ID.Cookie()] = to
	if !c.ports[s.ID.LocalPort()] { // else the other port is one of many that it chose
		c.peers[peerAddress{s.ID.Remote().String(), s.ID.RemotePort()}] = to.node
	}
}

// none tells whether the VM has had no connection, and takes none: then narrow
// lets the kernel tell of no closed socket.
func (c *connections) none() bool { return len(c.ports)+len(c.peers)+len(c.known) == 0 }

// quiet tells whether no connection is open.
func (c *connections) quiet() bool {
	for _, one := range c.known {
		if !one.closed {
			return false
		}
	}
	return true
}

// hear takes in the sockets that went away until a time: their last counts.
func (c *connections) hear(until time.Time) error {
	if c.none() {
		return nil
	}
	for {
		gone, err := c.kernel.Closed(until)
		if errors.Is(err, unix.ENOBUFS) {
			c.missed++
			continue
		}
		if err != nil {
			return fmt.Errorf("listen for closed sockets: %w", err)
		}
		if gone == nil {
			return nil
		}
		for _, s := range gone {
			c.lost(s)
		}
	}
}

// lost notes a socket that went away: a known one, or one that came and went
// between two looks at the VM's list and is told by its ports.
func (c *connections) lost(s sockets.Socket) {
	if known := c.cookies[s.ID.Cookie()]; known != nil {
		known.socket.Sent, known.socket.Received, known.closed = s.Sent, s.Received, true
		return
	}
	node, ok := c.peers[peerAddress{s.ID.Remote().String(), s.ID.RemotePort()}]
	if !ok && !c.ports[s.ID.LocalPort()] || s.State == sockets.Listen || s.Sent+s.Received == 0 {
		return
	}
	sum := c.short[node]
	if sum == nil {
		sum = &connection{node: node, known: true, closed: true}
		c.short[node] = sum
	}
	sum.socket.Sent += s.Sent
	sum.socket.Received += s.Received
}

// end takes the last counts. Sockets outlive the VM for a while, so it does not
// matter if that is gone.
func (c *connections) end() {
	_ = c.follow(false)
	c.refresh()
}

// refresh takes the counts of what is still there.
func (c *connections) refresh() {
	for _, key := range c.order {
		one := c.known[key]
		if !one.known || one.closed {
			continue
		}
		// A socket that waits for its peer's last packets (TIME_WAIT) has no counts any more.
		if now, err := c.kernel.Look(one.socket.Family, one.socket.ID); err == nil && now.Sent >= one.socket.Sent && now.Received >= one.socket.Received {
			one.socket = now
		}
	}
}

// totals sums the connections up by node.
func (c *connections) totals() (totals []Total) {
	index := map[string]int{}
	add := func(one *connection) {
		i, ok := index[one.node]
		if !ok {
			i = len(totals)
			index[one.node] = i
			totals = append(totals, Total{Node: one.node})
		}
		t := &totals[i]
		t.Connections++
		if !one.known {
			t.Unknown++
		}
		t.SentBytes += one.socket.Sent - min(one.base.Sent, one.socket.Sent)
		t.ReceivedBytes += one.socket.Received - min(one.base.Received, one.socket.Received)
		t.SentPackets += one.packets.sent - min(one.existing.sent, one.packets.sent)
		t.ReceivedPackets += one.packets.received - min(one.existing.received, one.packets.received)
	}
	for _, key := range c.order {
		add(c.known[key])
	}
	for _, one := range c.short {
		add(one)
	}
	return totals
}
