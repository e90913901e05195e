package distribution

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
	wantInfo     = 1 << (diagInfo - 1) // idiag_ext
	diagIDLength = 48                  // struct inet_diag_sockid
	requestSize  = 8 + diagIDLength    // struct inet_diag_req_v2
	messageSize  = 4 + diagIDLength + 20
	allStates    = ^uint32(0)
)

// socketID is struct inet_diag_sockid: ports, addresses, interface and cookie.
// The kernel gives no other socket the same one.
type socketID [diagIDLength]byte

func (id socketID) cookie() uint64     { return binary.NativeEndian.Uint64(id[40:]) }
func (id socketID) localPort() uint16  { return binary.BigEndian.Uint16(id[0:]) }
func (id socketID) remotePort() uint16 { return binary.BigEndian.Uint16(id[2:]) }
func (id socketID) remote() netip.Addr { return address(id[20:36]) }

// address reads an address of 4 bytes in a field of 16, or of 16.
func address(b []byte) netip.Addr {
	if binary.NativeEndian.Uint64(b[4:]) == 0 && binary.NativeEndian.Uint32(b[12:]) == 0 {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16])).Unmap()
}

// socket is what the kernel says of a TCP socket.
type socket struct {
	family   uint8
	state    uint8
	id       socketID
	inode    uint32 // 0 if the program closed it already
	sent     uint64 // bytes of data handed to the network, each once
	received uint64 // bytes of data that arrived, each once
}

// sockets asks the kernel for the TCP sockets of a network namespace, and hears
// of those that go away.
type sockets struct {
	questions *netlink.Conn
	destroyed *netlink.Conn
}

// closedBuffer is the size of the receive buffer for sockets that go away, in
// bytes: about 10 000 of them.
const closedBuffer = 8 << 20

// openSockets opens the sockets of the network namespace of a process. Its
// error wraps os.ErrPermission without CAP_SYS_ADMIN.
func openSockets(pid int) (_ *sockets, err error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("open the VM's network namespace: %w", err)
	}
	defer namespace.Close()
	config := netlink.Config{NetNS: int(namespace.Fd())}
	s := &sockets{}
	if s.questions, err = netlink.Dial(unix.NETLINK_SOCK_DIAG, &config); err != nil {
		return nil, fmt.Errorf("ask the kernel for the VM's sockets: %w", err)
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.destroyed, err = netlink.Dial(unix.NETLINK_SOCK_DIAG, &config); err != nil {
		return nil, fmt.Errorf("ask the kernel for closed sockets: %w", err)
	}
	// Without the privilege to exceed the system's limit it is only smaller.
	_ = s.destroyed.SetReadBuffer(closedBuffer)
	for _, group := range []uint32{unix.SKNLGRP_INET_TCP_DESTROY, unix.SKNLGRP_INET6_TCP_DESTROY} {
		if err = s.destroyed.JoinGroup(group); err != nil {
			return nil, fmt.Errorf("ask the kernel for closed sockets: %w", err)
		}
	}
	return s, nil
}

func (s *sockets) close() error {
	errs := []error{s.questions.Close()}
	if s.destroyed != nil {
		errs = append(errs, s.destroyed.Close())
	}
	return errors.Join(errs...)
}

// find returns the sockets with the inodes wanted. It makes the kernel list all
// sockets of the namespace, so it is for those not known yet.
func (s *sockets) find(wanted map[uint32]bool) (map[uint32]socket, error) {
	found := map[uint32]socket{}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if len(found) == len(wanted) {
			break
		}
		all, err := s.ask(family, netlink.Dump, socketID{})
		if err != nil {
			return nil, fmt.Errorf("list the VM's sockets: %w", err)
		}
		for _, one := range all {
			if wanted[one.inode] {
				found[one.inode] = one
			}
		}
	}
	return found, nil
}

// look returns a socket as it is now; its error is fs.ErrNotExist if it is gone.
func (s *sockets) look(family uint8, id socketID) (socket, error) {
	all, err := s.ask(family, 0, id)
	if err == nil && len(all) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return socket{}, err
	}
	return all[0], nil
}

func (s *sockets) ask(family uint8, flags netlink.HeaderFlags, id socketID) ([]socket, error) {
	request := make([]byte, 8, requestSize)
	request[0], request[1], request[2] = family, unix.IPPROTO_TCP, wantInfo
	binary.NativeEndian.PutUint32(request[4:], allStates)
	messages, err := s.questions.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | flags},
		Data:   append(request, id[:]...),
	})
	if err != nil {
		return nil, err
	}
	return parseSockets(messages), nil
}

// closed returns the sockets that went away until a time.
func (s *sockets) closed(until time.Time) ([]socket, error) {
	if err := s.destroyed.SetReadDeadline(until); err != nil {
		return nil, err
	}
	messages, err := s.destroyed.Receive()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, nil
	}
	return parseSockets(messages), err
}

// parseSockets reads struct inet_diag_msg and the attributes behind it.
func parseSockets(messages []netlink.Message) []socket {
	var all []socket
	for _, m := range messages {
		if m.Header.Type != unix.SOCK_DIAG_BY_FAMILY || len(m.Data) < messageSize {
			continue
		}
		s := socket{family: m.Data[0], state: m.Data[1], id: socketID(m.Data[4:]), inode: binary.NativeEndian.Uint32(m.Data[messageSize-4:])}
		attributes, err := netlink.NewAttributeDecoder(m.Data[messageSize:])
		if err != nil {
			continue
		}
		for attributes.Next() {
			if attributes.Type() == diagInfo {
				s.sent, s.received = traffic(attributes.Bytes())
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
