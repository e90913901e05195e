package beam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// maxNodes bounds the walk through a list of nodes.
const maxNodes = 1 << 14

// nodeLists are the VM's lists of nodes it is connected to, or about to be
// (erl_node_tables.c, 23 to 27).
var nodeLists = [...]string{"erts_visible_dist_entries", "erts_hidden_dist_entries", "erts_pending_dist_entries"}

// Connection is a connection to another node.
type Connection struct {
	Entry      uint64 // address of its dist_entry_
	ID         uint32 // another one for each connection of the entry
	Node       string // name of the other node
	Controller uint64 // term: the port of inet_drv, or the process that does the work of one (TLS)
	Received   uint64 // packets, if CheckMessages finds nothing; a message of more than 64 KiB is several, a tick is one
	Sent       uint64
}

// Connections lists the nodes the VM is connected to now. The lists may change
// while they are read: an error says that this list is not complete.
func (t *Target) Connections() ([]Connection, error) {
	var found []Connection
	seen := map[uint64]bool{}
	for _, name := range nodeLists {
		at, ok := t.Symbol(name)
		if !ok {
			return found, fmt.Errorf("%w: %s: %w", ErrUnsupported, name, errNoSymbol)
		}
		entry, err := memory.Uint64(t.Memory, at)
		for err == nil && entry != 0 && !seen[entry] && len(seen) < maxNodes {
			seen[entry] = true
			var c Connection
			var next uint64
			if c, next, err = t.connection(entry); err == nil && (IsPort(c.Controller) || IsPID(c.Controller)) {
				found = append(found, c)
			}
			entry = next
		}
		if err != nil {
			return found, fmt.Errorf("read the list of nodes: %w", err)
		}
	}
	return found, nil
}

// messageERTS are the versions of the emulator whose messages between nodes are
// laid out as the table of their OTP release says (OTP 25.0 to 25.2). OTP 25.3
// (erts 13.2) put fields into dist_entry_ and ErtsDistOutputBuf_ (async_dist,
// OTP-18374); what comes before them, and so all else of Connections but the
// counts of packets, is where it was.
var messageERTS = []string{"13.0", "13.1"}

// CheckMessages returns an error that wraps ErrUnsupported if it is not known how
// the VM lays out the messages that it exchanges with other nodes: Layout's
// DistEntry (Cache, In, Out), Sending and OutputBuffer say nothing of it then, and
// nor do the packets of Connections.
func (t *Target) CheckMessages() error {
	for _, known := range messageERTS {
		if t.ERTS == known || strings.HasPrefix(t.ERTS, known+".") {
			return nil
		}
	}
	return fmt.Errorf("%w: how erts %s lays out messages between nodes is not known (known: %s)",
		ErrUnsupported, t.ERTS, strings.Join(messageERTS, ", "))
}

// connection reads the dist_entry_ at an address; the one after it in its list is next.
func (t *Target) connection(entry uint64) (c Connection, next uint64, err error) {
	l := &t.Layout.DistEntry
	head := make([]byte, max(l.Next, l.Node, l.Controller, l.ConnectionID, l.In, l.Out)+8)
	if err := t.Memory.Read(head, entry); err != nil {
		return c, 0, err
	}
	word := func(o Offset) uint64 { return binary.NativeEndian.Uint64(head[o:]) }
	c = Connection{
		Entry: entry, ID: binary.NativeEndian.Uint32(head[l.ConnectionID:]), Controller: word(l.Controller),
		Received: word(l.In), Sent: word(l.Out),
	}
	if c.Node, err = t.atoms.lookup(word(l.Node)); err != nil {
		return c, 0, fmt.Errorf("name of a node: %w", err)
	}
	return c, word(l.Next), nil
}

// ControllerSocket returns the socket of a connection and who gets what arrives
// there. With TLS a process stands between the VM and the socket: the one that
// sends. The one that receives owns the socket, and both were started by the
// supervisor of this connection (tls_dyn_connection_sup in ssl, OTP 25 to 28).
func (t *Target) ControllerSocket(c Connection) (Socket, error) {
	if IsPort(c.Controller) {
		return t.Socket(c.Controller)
	}
	parent, ok := t.Parent(c.Controller)
	if !ok {
		return Socket{}, errNoSocket
	}
	all, err := t.Sockets()
	if err != nil {
		return Socket{}, err
	}
	for _, s := range all {
		if p, ok := t.Parent(s.Connected); ok && (p == parent || s.Connected == c.Controller) {
			return s, nil
		}
	}
	return Socket{}, errNoSocket
}

// errNoSocket says that a port is none of inet_drv's.
var errNoSocket = errors.New("not a port of inet_drv")

// Socket is a TCP port of inet_drv.
type Socket struct {
	Connected  uint64 // pid term of the owner
	Descriptor int    // file descriptor of the VM
}

// Socket returns the socket of a port.
func (t *Target) Socket(port uint64) (Socket, error) {
	if !IsPort(port) {
		return Socket{}, errNoSocket
	}
	table, err := t.readTable("erts_port")
	if err != nil {
		return Socket{}, err
	}
	slot := port >> t.Layout.PID.IndexShift & uint64(table.indexMask)
	at, err := memory.Uint64(t.Memory, table.slots+8*slot)
	if err != nil {
		return Socket{}, fmt.Errorf("read the table of ports: %w", err)
	}
	id, s, err := t.socket(at)
	if err == nil && id != port {
		err = errNoSocket // closed meanwhile
	}
	return s, err
}

// Sockets lists the TCP ports of inet_drv.
func (t *Target) Sockets() ([]Socket, error) {
	table, err := t.readTable("erts_port")
	if err != nil {
		return nil, err
	}
	slots := make([]byte, 8*int(table.max))
	if err := t.Memory.Read(slots, table.slots); err != nil {
		return nil, fmt.Errorf("read the table of ports: %w", err)
	}
	var found []Socket
	for ; len(slots) > 0; slots = slots[8:] {
		at := binary.NativeEndian.Uint64(slots)
		if at == 0 || at == table.invalid || at%8 != 0 {
			continue
		}
		if _, s, err := t.socket(at); err == nil {
			found = append(found, s)
		}
	}
	return found, nil
}

// socket reads the port at an address.
func (t *Target) socket(at uint64) (id uint64, s Socket, err error) {
	port, err := t.Port(at)
	if err != nil {
		return 0, s, err
	}
	if port.Driver != "tcp_inet" {
		return 0, s, errNoSocket
	}
	if id, err = memory.Uint64(t.Memory, at+uint64(t.Layout.Port.ID)); err != nil {
		return 0, s, err
	}
	data, err := memory.Uint64(t.Memory, at+uint64(t.Layout.Port.Data))
	if err != nil {
		return 0, s, err
	}
	descriptor, err := memory.Uint32(t.Memory, data+uint64(t.Layout.Socket.Descriptor))
	if err != nil {
		return 0, s, fmt.Errorf("socket of a port: %w", err)
	}
	if int32(descriptor) < 0 {
		return 0, s, errNoSocket // closed
	}
	return id, Socket{Connected: port.Connected, Descriptor: int(descriptor)}, nil
}

// Parent returns the pid of the process that spawned the process with a pid.
func (t *Target) Parent(pid uint64) (parent uint64, ok bool) {
	at, ok := t.ProcessByPID(pid)
	if !ok {
		return 0, false
	}
	parent, err := memory.Uint64(t.Memory, at+uint64(t.Layout.Process.Parent))
	return parent, err == nil && IsPID(parent)
}
