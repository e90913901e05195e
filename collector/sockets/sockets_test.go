package sockets

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nltest"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

func run(t *testing.T, ports Ports, local, remote uint16) bool {
	t.Helper()
	machine, err := bpf.NewVM(filter(ports))
	if err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 200)
	binary.BigEndian.PutUint16(message[localPortAt:], local)
	binary.BigEndian.PutUint16(message[remotePortAt:], remote)
	kept, err := machine.Run(message)
	if err != nil {
		t.Fatal(err)
	}
	return kept > 0
}

func TestFilter(t *testing.T) {
	many := make([]uint16, maxPorts)
	for i := range many {
		many[i] = uint16(10000 + i)
	}
	for _, c := range []struct {
		ports         Ports
		local, remote uint16
		kept          bool
	}{
		{Ports{}, 1, 2, false},
		{Ports{Local: []uint16{7, 5}}, 5, 2, true},
		{Ports{Local: []uint16{5, 5}}, 2, 5, false},
		{Ports{Remote: []uint16{5}}, 2, 5, true},
		{Ports{Remote: []uint16{5}}, 5, 2, false},
		{Ports{Local: []uint16{5}, Remote: []uint16{6}}, 1, 6, true},
		{Ports{Local: []uint16{5}, Remote: []uint16{6}}, 6, 5, false},
		{Ports{Local: many}, 10999, 1, true},
		{Ports{Remote: many}, 1, 10000, true},
		{Ports{Remote: many}, 1, 11000, false},
	} {
		if kept := run(t, c.ports, c.local, c.remote); kept != c.kept {
			t.Errorf("%d to %d with %d and %d ports: kept is %v", c.local, c.remote, len(c.ports.Local), len(c.ports.Remote), kept)
		}
	}
}

// TestOnly: the kernel tells of the sockets with certain ports that close, of
// no others, and then of all again.
func TestOnly(t *testing.T) {
	testsupport.RequireRoot(t)
	kernel, err := Open(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer kernel.Close()
	if err := kernel.Subscribe(); err != nil {
		t.Fatal(err)
	}
	one, two := echo(t), echo(t)
	port := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

	many := make([]uint16, maxPorts) // the kernel takes the largest program
	for i := range many {
		many[i] = uint16(i)
	}
	if err := kernel.Only(Ports{Local: many}); err != nil {
		t.Error(err)
	}
	if err := kernel.Only(Ports{Remote: []uint16{port(one)}}); err != nil {
		t.Fatal(err)
	}
	visit(t, two)
	visit(t, one)
	seen := heard(t, kernel, port(one))
	if slices.Contains(seen, port(two)) {
		t.Errorf("heard of %v, wanted no others than %d", seen, port(one))
	}
	if err := kernel.All(); err != nil {
		t.Fatal(err)
	}
	visit(t, two)
	heard(t, kernel, port(two))
	if err := kernel.Only(Ports{Local: append(many, 1)}); err != nil {
		t.Fatal(err)
	}
	visit(t, two)
	heard(t, kernel, port(two))
}

// echo listens until the test ends and closes each connection.
func echo(t *testing.T) net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Read(make([]byte, 1))
			connection.Close()
		}
	}()
	return listener
}

func visit(t *testing.T, l net.Listener) {
	connection, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	connection.Close()
}

// heard returns the remote ports of the sockets that closed, up to the first with port.
func heard(t *testing.T, kernel *Namespace, port uint16) (seen []uint16) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		gone, err := kernel.Closed(time.Now().Add(100 * time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range gone {
			seen = append(seen, s.ID.RemotePort())
		}
		if slices.Contains(seen, port) {
			return seen
		}
	}
	t.Fatalf("heard of %v, not of %d", seen, port)
	return nil
}

// A kernel that has nothing to list sockets with says ENOENT.
func TestUnlisted(t *testing.T) {
	n := &Namespace{questions: nltest.Dial(func([]netlink.Message) ([]netlink.Message, error) {
		return nltest.Error(int(unix.ENOENT), []netlink.Message{{}})
	})}
	defer n.Close()
	if _, err := n.Listening(); !errors.Is(err, ErrUnlisted) {
		t.Errorf("listening sockets: %v", err)
	}
	if _, err := n.Find(map[uint32]bool{1: true}); !errors.Is(err, ErrUnlisted) {
		t.Errorf("sockets: %v", err)
	}
	if _, err := n.Look(unix.AF_INET, ID{}); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrUnlisted) {
		t.Errorf("a socket that is gone: %v", err)
	}
}
