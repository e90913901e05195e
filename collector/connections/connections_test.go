package connections

import (
	"context"
	"math"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// watched is a session that looks at this very process.
type watched struct {
	*Session
	t      testing.TB
	stop   context.CancelFunc
	done   chan error
	events []Event
}

// watch begins to look at the listeners that a process has now.
func watch(t testing.TB, pid int) *watched {
	t.Helper()
	return watchWithin(t, pid, math.Inf(1)) // no test depends on how fast the machine is
}

// watchWithin is watch with a budget for the filter.
func watchWithin(t testing.TB, pid int, budget float64) *watched {
	t.Helper()
	testsupport.RequireBPF(t)
	s, err := Open(pid, Full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if p := s.packets.Load(); p != nil {
		p.budget = budget
	}
	ctx, stop := context.WithCancel(t.Context())
	w := &watched{Session: s, t: t, stop: stop, done: make(chan error, 1)}
	running := make(chan bool)
	var once sync.Once
	go func() {
		once.Do(func() { close(running) })
		w.done <- s.Run(ctx, func(e Event) { w.events = append(w.events, e) })
	}()
	<-running
	time.Sleep(20 * time.Millisecond)
	return w
}

// end ends it and returns the totals of a listener.
func (w *watched) end(l net.Listener) Totals {
	w.t.Helper()
	return w.total(uint16(l.Addr().(*net.TCPAddr).Port))
}

// total ends it and returns the totals of the listener on a port.
func (w *watched) total(port uint16) Totals {
	w.t.Helper()
	w.stop()
	if err := <-w.done; err != nil {
		w.t.Fatal(err)
	}
	all, err := w.Totals()
	if err != nil {
		w.t.Fatal(err)
	}
	stats := w.Stats()
	if stats.Uncounted > 0 { // on the whole machine, not only of this test
		w.t.Logf("%d changes of sockets were not shown by the kernel", stats.Uncounted)
		stats.Uncounted = 0
	}
	if stats != (Stats{Detail: Full}) {
		w.t.Errorf("not all was seen: %+v", stats)
	}
	for _, one := range all {
		if one.Listener.Address.Port() == port {
			return one
		}
	}
	w.t.Fatalf("no listener on port %d among %+v", port, all)
	return Totals{}
}

func listen(t testing.TB, network, at string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair connects to a listener and returns both ends.
func pair(t testing.TB, l net.Listener, network, at string) (client, server *net.TCPConn) {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// gone waits until the other end has closed.
func gone(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil || n > 0 || os.IsTimeout(err) {
		t.Fatalf("not closed: %d, %v", n, err)
	}
}

func TestWhoCloses(t *testing.T) {
	for name, test := range map[string]struct {
		close func(t *testing.T, client, server *net.TCPConn)
		want  ClosedBy
	}{
		"client": {func(t *testing.T, client, server *net.TCPConn) { client.Close(); gone(t, server); server.Close() }, ClosedByPeer},
		"server": {func(t *testing.T, client, server *net.TCPConn) { server.Close(); gone(t, client); client.Close() }, ClosedByTarget},
		"client's reset": {func(t *testing.T, client, server *net.TCPConn) {
			client.SetLinger(0)
			client.Close()
			gone(t, server)
			server.Close()
		}, ClosedByPeer},
		"server's reset": {func(t *testing.T, client, server *net.TCPConn) {
			server.SetLinger(0)
			server.Close()
			gone(t, client)
			client.Close()
		}, ClosedByTarget},
		"server with data unread": {func(t *testing.T, client, server *net.TCPConn) {
			client.Write([]byte("x"))
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			server.Read(nil)
			time.Sleep(10 * time.Millisecond)
			server.Close()
			gone(t, client)
			client.Close()
		}, ClosedByTarget},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, "tcp", "127.0.0.1:0")
			w := watch(t, os.Getpid())
			for range 10 {
				client, server := pair(t, l, "tcp", l.Addr().String())
				test.close(t, client, server)
			}
			got := w.end(l)
			want := Totals{Listener: got.Listener, Opened: 10, Closed: 10}
			if test.want == ClosedByPeer {
				want.ClosedByPeer = 10
			} else {
				want.ClosedByTarget = 10
			}
			if got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
			all := w.closedConnections()
			for _, c := range all {
				if c.By != test.want || c.Opened == 0 || c.Closed < c.Opened {
					t.Errorf("%+v", c)
				}
			}
			if len(all) != 10 {
				t.Errorf("%d connections were closed, want 10", len(all))
			}
		})
	}
}

// What happened is there after Flush, while Run goes on.
func TestFlush(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	w := watch(t, os.Getpid())
	for round := 1; round <= 3; round++ {
		client, server := pair(t, l, "tcp", l.Addr().String())
		client.Close()
		gone(t, server)
		server.Close()
		time.Sleep(50 * time.Millisecond) // more than a moment
		w.Flush()
		if got := len(w.closedConnections()); got != round {
			t.Errorf("%d connections of %d are told", got, round)
		}
	}
	w.end(l)
	w.Flush() // nobody runs
}
