package connections

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
)

// learn returns how the kernel side tells the sockets of a process's network
// namespace: by the address of its struct net. It listens for a moment on
// loopback addresses, in this process's namespace and in that one, and looks at
// the sockets as the kernel side sees them. That shows as well whether the
// layout of struct sock is the one expected.
func learn(pid int, programs *bpf.ConnectionPrograms) (bpf.ConnectionSettings, error) {
	l := learner{programs: programs}
	if err := l.learn(pid); err != nil {
		return bpf.ConnectionSettings{}, fmt.Errorf("learn the VM's network namespace: %w", err)
	}
	return bpf.ConnectionSettings{Net: l.net, Pid: uint32(pid), PortOffset: l.portOffset()}, nil
}

// learner is what was learned of struct sock.
type learner struct {
	programs *bpf.ConnectionPrograms
	net      uint64       // of the process
	offsets  map[int]bool // where all sockets had their port in network order
}

var errLayout = errors.New("this kernel's struct sock is not laid out as expected")

func (l *learner) learn(pid int) error {
	same, err := sameNamespace(pid, os.Getpid())
	if err != nil {
		return err
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	var here, six uint64
	err = inNamespace(os.Getpid(), func() (err error) {
		here, err = l.listen(loopback)
		return err
	})
	if err != nil {
		return err
	}
	err = inNamespace(pid, func() (err error) {
		if l.net, err = l.listen(loopback); err != nil {
			return err
		}
		six, err = l.listen(netip.IPv6Loopback())
		if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) { // no IPv6 there
			six, err = l.net, nil
		}
		return err
	})
	if err == nil && ((here == l.net) != same || int64(l.net) >= 0 || six != l.net) {
		err = errLayout
	}
	return err
}

// listen listens on an address and returns the socket's struct net as the kernel
// side saw it.
func (l *learner) listen(address netip.Addr) (uint64, error) {
	if err := l.programs.Set(bpf.ConnectionSettings{Learner: uint32(unix.Gettid())}); err != nil {
		return 0, err
	}
	family, level, freebind := unix.AF_INET, unix.IPPROTO_IP, unix.IP_FREEBIND
	var at unix.Sockaddr
	if address.Is4() {
		at = &unix.SockaddrInet4{Addr: address.As4()}
	} else {
		family, level, freebind = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		at = &unix.SockaddrInet6{Addr: address.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	// The loopback interface may be down.
	if err := unix.SetsockoptInt(fd, level, freebind, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, at); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		return 0, os.NewSyscallError("listen", err)
	}
	if at, err = unix.Getsockname(fd); err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	head, all, err := l.programs.Learned()
	if err != nil {
		return 0, err
	}
	return head.Net, l.check(head, all, family, at)
}

// check compares a socket as the kernel side saw it with what it is.
func (l *learner) check(head bpf.SockHead, all []byte, family int, at unix.Sockaddr) error {
	var port int
	var local, address []byte
	switch at := at.(type) {
	case *unix.SockaddrInet4:
		port, address, local = at.Port, at.Addr[:], binary.NativeEndian.AppendUint32(nil, head.Local4)
	case *unix.SockaddrInet6:
		port, address, local = at.Port, at.Addr[:], head.Local6[:]
	}
	if int(head.Family) != family || int(head.LocalPort) != port || !bytes.Equal(local, address) {
		return errLayout
	}
	offsets := map[int]bool{}
	for offset := int(unsafe.Sizeof(head)); offset+2 <= len(all); offset += 2 {
		if int(binary.BigEndian.Uint16(all[offset:])) == port && (l.offsets == nil || l.offsets[offset]) {
			offsets[offset] = true
		}
	}
	l.offsets = offsets
	return nil
}

// portOffset returns where a socket keeps its port when it has given it back, 0
// if that is not certain.
func (l *learner) portOffset() uint32 {
	if len(l.offsets) != 1 {
		return 0
	}
	for offset := range l.offsets {
		return uint32(offset)
	}
	return 0
}
