package connections

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/sockets"
)

// Listener is an address that the VM listens on.
type Listener struct {
	Address netip.AddrPort
	number  uint32 // in the kernel side
}

// listeners are those of one process, as the kernel side knows them, too.
type listeners struct {
	mutex    sync.Mutex // guards all
	all      []*Listener
	byNumber map[uint32]*Listener
	known    map[netip.AddrPort]bool // also those of other processes
	programs *bpf.ConnectionPrograms
	packets  *packets // nil: not told
}

// findListeners takes in where the process listens, and where others in its
// network namespace do: a connection to an address of theirs is not its own,
// even if it listens on every address of that port.
func findListeners(pid int, programs *bpf.ConnectionPrograms) (*listeners, error) {
	kernel, err := sockets.Open(pid)
	if err != nil {
		return nil, err
	}
	defer kernel.Close()
	listening, err := kernel.Listening()
	if err != nil {
		return nil, err
	}
	inodes := map[uint32]bool{}
	for _, s := range listening {
		inodes[s.Inode] = true
	}
	own, err := ownInodes(pid, inodes)
	if err != nil {
		return nil, err
	}
	l := &listeners{byNumber: map[uint32]*Listener{}, known: map[netip.AddrPort]bool{}, programs: programs}
	// With SO_REUSEPORT several sockets have one address: then the process's own count.
	for _, mine := range []bool{true, false} {
		for _, s := range listening {
			if own[s.Inode] == mine {
				if err := l.add(listenAddress(s), s.Only6, mine); err != nil {
					return nil, err
				}
			}
		}
	}
	return l, nil
}

// listenAddress tells every address of IPv6 from every one of IPv4.
func listenAddress(s sockets.Socket) netip.AddrPort {
	address := s.ID.Local()
	if s.Family == unix.AF_INET6 && address == netip.IPv4Unspecified() {
		address = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(address, s.ID.LocalPort())
}

// add makes an address known to the kernel side. One of every address takes
// IPv4, too, unless only6 is set or another listens there.
func (l *listeners) add(address netip.AddrPort, only6, mine bool) error {
	if l.known[address] {
		return nil
	}
	l.known[address] = true
	number := uint32(bpf.NotTheTargets)
	if mine {
		if len(l.all) == bpf.MaxListeners {
			return nil
		}
		number = uint32(len(l.all))
		one := &Listener{Address: address, number: number}
		l.mutex.Lock()
		l.all = append(l.all, one)
		l.mutex.Unlock()
		l.byNumber[number] = one
	}
	if err := l.programs.AddListener(address.Addr().As16(), address.Port(), number); err != nil {
		return err
	}
	if mine && l.packets != nil {
		if err := l.packets.program.AddPort(address.Port()); err != nil {
			return err
		}
	}
	every4 := netip.AddrPortFrom(netip.IPv4Unspecified(), address.Port())
	if address.Addr() == netip.IPv6Unspecified() && !only6 && !l.known[every4] {
		return l.programs.AddListener(every4.Addr().As16(), address.Port(), number)
	}
	return nil
}

// tell has a filter look at connections to the listeners, also to those to come.
func (l *listeners) tell(p *packets) error {
	l.packets = p
	for _, one := range l.list() {
		if err := p.program.AddPort(one.Address.Port()); err != nil {
			return err
		}
	}
	return nil
}

// list returns the listeners that are known now.
func (l *listeners) list() []*Listener {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return slices.Clone(l.all)
}

// ownInodes returns which of the sockets wanted are file descriptors of a process.
func ownInodes(pid int, wanted map[uint32]bool) (map[uint32]bool, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, fmt.Errorf("look for the VM's listening sockets: %w", err)
	}
	defer dir.Close()
	own := map[uint32]bool{}
	for len(own) < len(wanted) {
		names, err := dir.Readdirnames(1000)
		for _, name := range names {
			descriptor, err := strconv.Atoi(name)
			if err != nil {
				continue
			}
			if inode, err := sockets.Inode(pid, descriptor); err == nil && wanted[inode] {
				own[inode] = true
			}
		}
		if err != nil { // the end, or the process's
			break
		}
	}
	return own, nil
}
