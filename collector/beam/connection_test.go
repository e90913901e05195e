package beam

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// The VM's own list of nodes, with the sockets that its distribution uses.
func TestConnections(t *testing.T) {
	testsupport.RequireRoot(t)
	cluster := testsupport.NewCluster(t)
	a := testsupport.StartVM(t, testsupport.Options{Name: "beamconn_a", Cluster: cluster})
	b := testsupport.StartVM(t, testsupport.Options{Name: "beamconn_b", Cluster: cluster})
	target, err := Attach(a.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if found, err := target.Connections(); err != nil || len(found) != 0 {
		t.Errorf("before it is connected: %+v, %v", found, err)
	}
	a.Eval(t, "true = net_kernel:connect_node('beamconn_b@localhost')")
	found, err := target.Connections()
	if err != nil || len(found) != 1 || found[0].Node != b.Node {
		t.Fatalf("%+v, %v", found, err)
	}
	socket, err := target.Socket(found[0].Controller)
	if err != nil {
		t.Fatal(err)
	}
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", a.PID, socket.Descriptor))
	if err != nil || !strings.HasPrefix(link, "socket:") {
		t.Errorf("file descriptor %d is %q (%v)", socket.Descriptor, link, err)
	}
	// Twenty casts are twenty packets and more; others send a few, too.
	a.Eval(t, "[erlang:send({nobody, 'beamconn_b@localhost'}, hello) || _ <- lists:seq(1, 20)], ok = erpc:call('beamconn_b@localhost', erlang, apply, [fun() -> ok end, []])")
	after, err := target.Connections()
	if err != nil || len(after) != 1 || after[0].Sent < found[0].Sent+21 {
		t.Errorf("%+v, then %+v, %v", found, after, err)
	}
	all, err := target.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	if in := fmt.Sprint(all); !strings.Contains(in, fmt.Sprint(socket)) {
		t.Errorf("%v is not in %v", socket, all)
	}
	a.Eval(t, "true = erlang:disconnect_node('beamconn_b@localhost')")
	if found, err := target.Connections(); err != nil || len(found) != 0 {
		t.Errorf("after it was disconnected: %+v, %v", found, err)
	}
	if _, err := target.Socket(found[0].Controller); err == nil {
		t.Error("a closed port has a socket")
	}
}

func TestConnectionsOfAnotherVM(t *testing.T) {
	target := &Target{}
	if _, err := target.Socket(0); err == nil {
		t.Error("0 is a port")
	}
	if _, ok := target.Parent(0); ok {
		t.Error("0 has a parent")
	}
}

// TestCheckMessages: messages are not looked into where their layout is not known.
func TestCheckMessages(t *testing.T) {
	for version, known := range map[string]bool{
		"13.0": true, "13.0.4": true, "13.1.5": true, "13.2": false, "13.2.2.4": false, "14.0": false, "12.3": false, "": false, "x": false,
	} {
		target := &Target{Info: Info{ERTS: version}}
		err := target.CheckMessages()
		if known != (err == nil) || err != nil && !errors.Is(err, ErrUnsupported) {
			t.Errorf("erts %q: %v", version, err)
		}
	}
}
