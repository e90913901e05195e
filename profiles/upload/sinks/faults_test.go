package sinks

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// fault is a proxy in front of a server that breaks connections.
type fault struct {
	url      string
	listener net.Listener
	to       string

	mu          sync.Mutex
	slow        bool // 16 bytes every millisecond
	up, down    int  // bytes let through in each direction before the reset; -1 for all
	connections []net.Conn
	upSeen      int // bytes that came of the client
	downSeen    int
}

func newFault(t testing.TB, url string) *fault {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	scheme, to, _ := strings.Cut(url, "://")
	f := &fault{url: scheme + "://" + listener.Addr().String(), listener: listener, to: to, up: -1, down: -1}
	go f.serve()
	t.Cleanup(func() { listener.Close(); f.reset() })
	return f
}

func (f *fault) serve() {
	for {
		client, err := f.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", f.to)
		if err != nil {
			client.Close()
			continue
		}
		f.mu.Lock()
		f.connections = append(f.connections, client, server)
		up, down, slow := f.up, f.down, f.slow
		f.mu.Unlock()
		go f.copy(server, client, up, slow, &f.upSeen)
		go f.copy(client, server, down, slow, &f.downSeen)
	}
}

// copy lets so many bytes through and then resets both ends.
func (f *fault) copy(to, from net.Conn, most int, slow bool, seen *int) {
	buffer := make([]byte, 4096)
	if slow {
		buffer = buffer[:16]
	}
	for left := most; ; { // below 0 without a bound
		if left == 0 {
			abort(to)
			abort(from)
			return
		}
		room := buffer
		if left > 0 {
			room = buffer[:min(left, len(buffer))]
		}
		n, err := from.Read(room)
		if slow {
			time.Sleep(time.Millisecond)
		}
		if n > 0 {
			left -= n
			f.mu.Lock()
			*seen += n
			f.mu.Unlock()
			if _, err := to.Write(room[:n]); err != nil {
				return
			}
		}
		if err != nil {
			to.Close()
			return
		}
	}
}

func abort(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// reset ends all connections.
func (f *fault) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.connections {
		abort(c)
	}
	f.connections = nil
}

func (f *fault) breakAfter(up, down int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up, f.down, f.upSeen, f.downSeen = up, down, 0, 0
}

// TestResetAtEveryByte: wherever a connection breaks, in either direction, a
// delivery fails in a way that is tried again, or the server has the profile;
// and it never succeeds without that.
func TestResetAtEveryByte(t *testing.T) {
	for _, kind := range []string{TypePyroscopePush, TypeOTLPGRPC, TypeOTLPHTTP} { // the others post as the first
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, kind, nil)
			f := newFault(t, s.url)
			c := s.config()
			c.URL = strings.Replace(c.URL, s.url, f.url, 1)
			p := sample(t)
			deliver := prepare(t, c, p)
			try := func() error {
				if kind == TypeOTLPGRPC { // a connection that failed is not tried again at once
					sink, err := New(c.WithDefaults())
					if err != nil {
						t.Fatal(err)
					}
					defer sink.Close()
					if deliver, _, err = sink.Prepare(p); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				return deliver(ctx)
			}
			if err := try(); err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			up, down := f.upSeen, f.downSeen
			f.mu.Unlock()
			var failed, delivered int
			check := func(direction string, n int) {
				before := len(s.all())
				err := try()
				f.reset()
				var failure *Failure
				switch {
				case err == nil && len(s.all()) == before:
					t.Errorf("%s reset after %d bytes: success, but the server has nothing", direction, n)
				case err == nil:
					delivered++
				case !errors.As(err, &failure) || failure.Final:
					t.Errorf("%s reset after %d bytes: %v", direction, n, err)
				default:
					failed++
				}
			}
			if kind == TypeOTLPHTTP {
				up = 0 // as in the first
			}
			for n := range up {
				f.breakAfter(n, -1)
				check("upwards", n)
			}
			for n := range down {
				f.breakAfter(-1, n)
				check("downwards", n)
			}
			f.breakAfter(-1, -1)
			if err := try(); err != nil {
				t.Error("afterwards:", err)
			}
			ids := map[string]bool{}
			for _, r := range s.all() {
				ids[r.id] = true
			}
			if len(ids) != 1 {
				t.Errorf("the same profile came with %d IDs", len(ids))
			}
			if failed < up/2 {
				t.Errorf("only %d of %d attempts failed", failed, up+down)
			}
			t.Logf("%d bytes upwards, %d downwards: %d failed, %d delivered", up, down, failed, delivered)
		})
	}
}

// TestSlowConnection: a slow one is good enough within the time there is.
func TestSlowConnection(t *testing.T) {
	for _, kind := range remote {
		s := newServer(t, kind, nil)
		f := newFault(t, s.url)
		f.mu.Lock()
		f.slow = true
		f.mu.Unlock()
		c := s.config()
		c.URL = strings.Replace(c.URL, s.url, f.url, 1)
		if err := prepare(t, c, sample(t))(t.Context()); err != nil || len(s.all()) != 1 {
			t.Errorf("%s: %v, %d arrived", kind, err, len(s.all()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		var failure *Failure
		if err := prepare(t, c, sample(t))(ctx); !errors.As(err, &failure) || failure.Final || failure.Reason != ReasonTimeout {
			t.Errorf("%s: in too little time: %v", kind, err)
		}
	}
}

// TestRefusedConnection: nobody listens.
func TestRefusedConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for _, kind := range remote {
		c := Config{Name: "test", Type: kind, URL: "http://" + listener.Addr().String()}
		var f *Failure
		if err := prepare(t, c, sample(t))(t.Context()); !errors.As(err, &f) || f.Reason != ReasonNetwork || f.Final {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
