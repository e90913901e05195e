package distribution

import (
	"errors"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// ownNetwork puts the test, and what it starts, into a network of its own.
func ownNetwork(t *testing.T) {
	t.Helper()
	testsupport.RequireRoot(t)
	runtime.LockOSThread() // for good: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	loopback.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback); err != nil {
		t.Fatal(err)
	}
}

// A VM in a container is another process id, other files and another network.
func TestInContainer(t *testing.T) {
	testsupport.RequireBPF(t)
	ownNetwork(t)
	p := startTraffic(t, testsupport.Options{SysProcAttr: &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}})
	p.connect(t)
	s := run(t, p, Options{Detail: Full})
	p.a.Eval(t, "traffic:casts('bpdist_b@localhost', 200, 1000), traffic:wait('bpdist_b@localhost')")
	got := groups(s.end(t))[group{false, "reg_send", "traffic_server", "cast", "apply vmq_swc_store:rpc_broadcast"}]
	if got == nil || got[0] != 200 {
		t.Errorf("200 casts, seen: %v", got)
	}
	totals, err := s.Totals()
	if err != nil || len(totals) != 1 || totals[0].Node != p.b.Node || totals[0].Unknown != 0 || totals[0].SentBytes < 200_000 {
		t.Errorf("%+v, %v", totals, err)
	}
}

// Where the VM cannot be probed its bytes are counted all the same, and why is said.
func TestWithoutProbes(t *testing.T) {
	p := startTraffic(t, testsupport.Options{})
	p.connect(t)
	layout := *p.target.Layout
	layout.Sending.Phase = 0x7ff0 // nothing is stored there
	p.target.Layout = &layout
	s, err := Open(p.target, Options{Detail: Full})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if stats := s.Stats(); stats.Detail != Totals || !errors.Is(stats.NoMessages, errNoSite) {
		t.Errorf("%+v", stats)
	}
	if err := s.connections.begin(); err != nil {
		t.Fatal(err)
	}
	p.a.Eval(t, "traffic:casts('bpdist_b@localhost', 200, 1000), traffic:wait('bpdist_b@localhost')")
	s.connections.end()
	if totals, err := s.Totals(); err != nil || len(totals) != 1 || totals[0].SentBytes < 200_000 {
		t.Errorf("%+v, %v", totals, err)
	}
}
