// Package sockets asks the kernel for the TCP sockets of a network namespace, and
// hears of those that go away (sock_diag, netlink). Nothing is opened but netlink
// sockets in that namespace.
package sockets

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Constants of include/uapi/linux/inet_diag.h and sock_diag.h, all of them
// older than Linux 5.4. Attributes and the request's flags number alike.
const (
	diagInfo     = 2                   // INET_DIAG_INFO: struct tcp_info
	diagOnly6    = 11                  // INET_DIAG_SKV6ONLY: a byte, of IPv6 sockets that listen
	wantInfo     = 1 << (diagInfo - 1) // idiag_ext
	diagIDLength = 48                  // struct inet_diag_sockid
	requestSize  = 8 + diagIDLength    // struct inet_diag_req_v2
	messageSize  = 4 + diagIDLength + 20
	allStates    = ^uint32(0)
)

// Listen is TCP_LISTEN (include/net/tcp_states.h), the state of a listening socket.
const Listen = 10

// ID is struct inet_diag_sockid: ports, addresses, interface and cookie.
// The kernel gives no other socket the same one.
type ID [diagIDLength]byte

func (id ID) Cookie() uint64     { return binary.NativeEndian.Uint64(id[40:]) }
func (id ID) LocalPort() uint16  { return binary.BigEndian.Uint16(id[0:]) }
func (id ID) RemotePort() uint16 { return binary.BigEndian.Uint16(id[2:]) }
func (id ID) Local() netip.Addr  { return address(id[4:20]) }
func (id ID) Remote() netip.Addr { return address(id[20:36]) }

// address reads an address of 4 bytes in a field of 16, or of 16.
func address(b []byte) netip.Addr {
	if binary.NativeEndian.Uint64(b[4:]) == 0 && binary.NativeEndian.Uint32(b[12:]) == 0 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16])).Unmap()
}

// Socket is what the kernel says of a TCP socket.
type Socket struct {
	Family   uint8
	State    uint8
	ID       ID
	Inode    uint32 // 0 if the program closed it already
	Only6    bool   // of IPv6: it takes no IPv4 (IPV6_V6ONLY)
	Sent     uint64 // bytes of data handed to the network, each once
	Received uint64 // bytes of data that arrived, each once
}

// Namespace is a network namespace whose sockets are asked for.
type Namespace struct {
	pid       int
	questions *netlink.Conn
	destroyed *netlink.Conn // nil before Subscribe
	filtered  bool          // see Only
}

// ErrUnlisted says that the kernel has nothing to list TCP sockets with, and may
// not load it.
var ErrUnlisted = errors.New("the kernel does not list TCP sockets without its module tcp_diag: run modprobe tcp_diag")

// closedBuffer is the size of the receive buffer for sockets that go away, in
// bytes: about 10 000 of them.
const closedBuffer = 8 << 20

// Open opens the network namespace of a process. Without CAP_SYS_ADMIN its error
// wraps os.ErrPermission if that is not our own.
func Open(pid int) (*Namespace, error) {
	questions, err := dial(pid)
	if err != nil {
		return nil, fmt.Errorf("ask the kernel for the VM's sockets: %w", err)
	}
	return &Namespace{pid: pid, questions: questions}, nil
}

// dial opens a netlink socket in the network namespace of a process.
func dial(pid int) (*netlink.Conn, error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	config := &netlink.Config{}
	if ours, err := IsOurs(namespace); err != nil || !ours {
		config.NetNS = int(namespace.Fd())
	}
	return netlink.Dial(unix.NETLINK_SOCK_DIAG, config)
}

// IsOurs tells whether a network namespace is that of this thread: then there is
// no need to enter it.
func IsOurs(namespace *os.File) (bool, error) {
	one, err := namespace.Stat()
	if err != nil {
		return false, err
	}
	other, err := os.Stat("/proc/thread-self/ns/net")
	return os.SameFile(one, other), err
}

// Subscribe makes the kernel tell of sockets that go away: see Closed.
func (n *Namespace) Subscribe() (err error) {
	if n.destroyed, err = dial(n.pid); err != nil {
		return fmt.Errorf("ask the kernel for closed sockets: %w", err)
	}
	// Without the privilege to exceed the system's limit it is only smaller.
	_ = n.destroyed.SetReadBuffer(closedBuffer)
	for _, group := range []uint32{unix.SKNLGRP_INET_TCP_DESTROY, unix.SKNLGRP_INET6_TCP_DESTROY} {
		if err = n.destroyed.JoinGroup(group); err != nil {
			return fmt.Errorf("ask the kernel for closed sockets: %w", err)
		}
	}
	return nil
}

// Close closes what was opened.
func (n *Namespace) Close() error {
	errs := []error{n.questions.Close()}
	if n.destroyed != nil {
		errs = append(errs, n.destroyed.Close())
	}
	return errors.Join(errs...)
}

// Find returns the sockets with the inodes wanted. It makes the kernel list all
// sockets of the namespace, so it is for those not known yet. Its error may be
// ErrUnlisted.
func (n *Namespace) Find(wanted map[uint32]bool) (map[uint32]Socket, error) {
	found := map[uint32]Socket{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if len(found) == len(wanted) {
			break
		}
		all, err := n.list(family, allStates)
		if err != nil {
			return nil, fmt.Errorf("list the VM's sockets: %w", err)
		}
		for _, one := range all {
			if wanted[one.Inode] {
				found[one.Inode] = one
			}
		}
	}
	return found, nil
}

// Listening returns all sockets of the namespace that listen. Its error may be
// ErrUnlisted.
func (n *Namespace) Listening() ([]Socket, error) {
	var all []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		some, err := n.list(family, 1<<Listen)
		if err != nil {
			return nil, fmt.Errorf("list listening sockets: %w", err)
		}
		all = append(all, some...)
	}
	return all, nil
}

func (n *Namespace) list(family uint8, states uint32) ([]Socket, error) {
	all, err := n.ask(family, netlink.Dump, ID{}, states)
	if errors.Is(err, unix.ENOENT) { // sock_diag_rcv_msg, net/core/sock_diag.c
		err = ErrUnlisted
	}
	return all, err
}

// Look returns a socket as it is now; its error is fs.ErrNotExist if it is gone.
func (n *Namespace) Look(family uint8, id ID) (Socket, error) {
	all, err := n.ask(family, 0, id, allStates)
	if err == nil && len(all) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return Socket{}, err
	}
	return all[0], nil
}

func (n *Namespace) ask(family uint8, flags netlink.HeaderFlags, id ID, states uint32) ([]Socket, error) {
	request := make([]byte, 8, requestSize)
	request[0], request[1], request[2] = family, unix.IPPROTO_TCP, wantInfo
	binary.NativeEndian.PutUint32(request[4:], states)
	messages, err := n.questions.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | flags},
		Data:   append(request, id[:]...),
	})
	if err != nil {
		return nil, err
	}
	return parseSockets(messages), nil
}

// heardTimeout bounds the wait for a message that was there.
const heardTimeout = 10 * time.Millisecond

// Closed returns sockets that went away, as soon as it hears of any, or none when
// it has not until a time. It may be called until it returns none.
func (n *Namespace) Closed(until time.Time) ([]Socket, error) {
	if !until.After(time.Now()) {
		// The connection asks the kernel only before a deadline.
		if heard, err := n.heard(); !heard || err != nil {
			return nil, err
		}
		until = time.Now().Add(heardTimeout)
	}
	if err := n.destroyed.SetReadDeadline(until); err != nil {
		return nil, err
	}
	messages, err := n.destroyed.Receive()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return parseSockets(messages), err
}

// heard tells whether there is a message about sockets that went away, or an error.
func (n *Namespace) heard() (bool, error) {
	raw, err := n.destroyed.SyscallConn()
	if err != nil {
		return false, err
	}
	var count int
	var failed error
	err = raw.Control(func(fd uintptr) {
		count, failed = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	})
	if errors.Is(failed, unix.EINTR) {
		failed = nil
	}
	return count > 0, errors.Join(err, failed)
}

// parseSockets reads struct inet_diag_msg and the attributes behind it.
func parseSockets(messages []netlink.Message) []Socket {
	var all []Socket
	for _, m := range messages {
		if m.Header.Type != unix.SOCK_DIAG_BY_FAMILY || len(m.Data) < messageSize {
			continue
		}
		s := Socket{Family: m.Data[0], State: m.Data[1], ID: ID(m.Data[4:]), Inode: binary.NativeEndian.Uint32(m.Data[messageSize-4:])}
		attributes, err := netlink.NewAttributeDecoder(m.Data[messageSize:])
		if err != nil {
			continue
		}
		for attributes.Next() {
			switch attributes.Type() {
			case diagInfo:
				s.Sent, s.Received = traffic(attributes.Bytes())
			case diagOnly6:
				s.Only6 = len(attributes.Bytes()) == 1 && attributes.Bytes()[0] != 0
			}
		}
		if attributes.Err() == nil {
			all = append(all, s)
		}
	}
	return all
}

// traffic returns the bytes of data of a struct tcp_info, which newer kernels
// make longer. Bytes sent again are not counted again.
func traffic(info []byte) (sent, received uint64) {
	var i unix.TCPInfo
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&i)), unsafe.Sizeof(i)), info)
	return i.Bytes_sent - min(i.Bytes_retrans, i.Bytes_sent), i.Bytes_received
}

// Inode returns the inode of a socket that is a process's file descriptor.
func Inode(pid, descriptor int) (inode uint32, err error) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, descriptor))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(link, "socket:[%d]", &inode); err != nil {
		return 0, fmt.Errorf("file descriptor %d is %q: %w", descriptor, link, errNoSocket)
	}
	return inode, nil
}

var errNoSocket = errors.New("not a socket")
