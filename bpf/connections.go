package bpf

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// Types shared with connections.bpf.c, as bpf2go reads them from its BTF.
type (
	Endpoints          = connectionsEndpoints          // both ends of a connection; IPv4 mapped into IPv6
	ConnectionRecord   = connectionsConnectionRecord   // a whole RecordConnection
	ConnectionSettings = connectionsConnectionSettings // whose connections to look at
	ConnectionTotals   = connectionsConnectionTotals   // what happened on a listener, exactly
	SockHead           = connectionsSockHead           // head of the kernel's struct sock
)

// RecordConnection is a connection that came or went, behind the record types
// of the distribution's probes.
const RecordConnection = 5

// Events of a ConnectionRecord.
const (
	ConnectionOpened = 1
	ConnectionClosed = 2
	ListenerOpened   = 3 // the target listens on Ends' local side
)

// Who closed a connection, as in a ConnectionRecord.
const (
	ClosedByNobody = 0 // it broke
	ClosedByPeer   = 1
	ClosedByTarget = 2
)

// MaxListeners is how many listeners there can be; NotTheTargets stands for one
// of another process.
const (
	MaxListeners  = 1024
	NotTheTargets = 0xffffffff
)

// ConnectionPrograms are raw tracepoints where TCP sockets change their state.
type ConnectionPrograms struct {
	FromOutside, FromTarget *ebpf.Program // inet_sock_set_state, both
	Reset                   *ebpf.Program // tcp_receive_reset
	Events                  *ebpf.Map     // perf event array that all records go to

	objects connectionsObjects
}

// LoadConnections loads the programs. It needs what Load needs.
func LoadConnections() (*ConnectionPrograms, error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raising the memory lock limit: %w", err)
	}
	p := &ConnectionPrograms{}
	if err := loadConnectionsObjects(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the probe of connections: %w", err)
	}
	p.FromOutside, p.FromTarget, p.Reset = p.objects.ConnectionFromOutside, p.objects.ConnectionFromTarget, p.objects.ConnectionReset
	p.Events = p.objects.Events
	return p, nil
}

// Set says whose connections to look at.
func (p *ConnectionPrograms) Set(settings ConnectionSettings) error {
	if err := p.objects.Settings.Put(uint32(0), settings); err != nil {
		return fmt.Errorf("setting up the probe of connections: %w", err)
	}
	return nil
}

// Learned returns the head of the socket that the settings' learner last
// listened on, and more of it with the head at its start.
func (p *ConnectionPrograms) Learned() (head SockHead, all []byte, err error) {
	var sock connectionsLearnedSock
	if err := p.objects.Learned.Lookup(uint32(0), &sock); err != nil {
		return head, nil, fmt.Errorf("reading what the probe of connections learned: %w", err)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&head)), unsafe.Sizeof(head)), sock.Bytes[:])
	return head, sock.Bytes[:], nil
}

// AddListener makes number, below MaxListeners or NotTheTargets, that of the
// connections to an address and port.
func (p *ConnectionPrograms) AddListener(address [16]byte, port uint16, number uint32) error {
	key := connectionsListenerKey{Address: address, Port: port}
	if err := p.objects.Listeners.Put(key, number); err != nil {
		return fmt.Errorf("adding port %d to the probe of connections: %w", port, err)
	}
	return nil
}

// Totals returns what was counted for a listener.
func (p *ConnectionPrograms) Totals(number uint32) (sum ConnectionTotals, err error) {
	var perCPU []ConnectionTotals
	if err := p.objects.Totals.Lookup(number, &perCPU); err != nil {
		return sum, fmt.Errorf("reading the totals of connections: %w", err)
	}
	for _, one := range perCPU {
		sum.Opened += one.Opened
		sum.Closed += one.Closed
		sum.ClosedByPeer += one.ClosedByPeer
		sum.ClosedByTarget += one.ClosedByTarget
	}
	return sum, nil
}

// Lost returns how many records found no room, and how many changes of a socket
// the programs did not see because they were at work already (from 5.12 on;
// older kernels see all).
func (p *ConnectionPrograms) Lost() (failed, missed uint64, err error) {
	var perCPU []uint64
	if err := p.objects.ConnectionCounters.Lookup(uint32(0), &perCPU); err != nil {
		return 0, 0, fmt.Errorf("reading the counters of the probe of connections: %w", err)
	}
	for _, one := range perCPU {
		failed += one
	}
	for _, program := range []*ebpf.Program{p.FromOutside, p.FromTarget, p.Reset} {
		if stats, err := program.Stats(); err == nil {
			missed += stats.RecursionMisses
		}
	}
	return failed, missed, nil
}

// Close unloads the programs. What is attached stays until that is closed, too.
func (p *ConnectionPrograms) Close() error {
	return p.objects.Close()
}
