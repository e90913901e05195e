package connections

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
)

// client is the n-th of a storm: all kinds of CONNECTs, and whether it comes in parts.
func client(n int) (p connectPacket, inParts bool) {
	p = connectPacket{level: byte(3 + n%3), id: fmt.Sprintf("client-%d", n), clean: n%2 == 0, keepAlive: uint16(n), user: "user", password: "password"}
	if p.level == 5 && n%4 == 0 {
		p.properties = []byte{0x11, 0, 0, 0, 60, 0x21, 0, 10}
	}
	switch n % 10 {
	case 1:
		p.id += refused
	case 2:
		p.id += noConnack
	case 3:
		return p, true
	}
	return p, false
}

// storm makes n connections at a rate a second, each from a client of its own,
// and returns how many failed.
func storm(tb testing.TB, l net.Listener, n, rate int) int {
	tb.Helper()
	const workers = 32
	var failed atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for worker := range workers {
		group.Go(func() {
			for i := worker; i < n; i += workers {
				time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(rate))))
				if err := once(l, i); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	group.Wait()
	return int(failed.Load())
}

// once is the connection of the n-th client. Sources differ, as there are not
// so many ports.
func once(l net.Listener, n int) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+n%200))}, Control: anyPort}
	c, err := dialer.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		return err
	}
	defer c.Close()
	p, inParts := client(n)
	packet := p.bytes()
	if inParts {
		at := 1 + n%(len(packet)-1)
		if _, err := c.Write(packet[:at]); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
		packet = packet[at:]
	}
	if _, err := c.Write(packet); err != nil {
		return err
	}
	if !p.want().Connack {
		return nil
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, err = readPacket(c)
	return err
}

// anyPort leaves the choice of the port until it connects.
func anyPort(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}), err)
}

// wrong returns of how many of n clients the facts are not right, or missing.
func (w *watched) wrong(n int) int {
	right := 0
	seen := map[string]*Connection{}
	for _, c := range w.closedConnections() {
		if c.Connect != nil {
			seen[c.Connect.ClientID] = c
		}
	}
	for i := range n {
		p, _ := client(i)
		if c := seen[p.id]; c != nil && *c.Connect == p.want() && c.Opened > 0 && c.By == ClosedByPeer {
			right++
		}
	}
	return n - right
}

// Whatever clients do, all is right: each connection is counted, and each
// CONNECT and CONNACK is as it was.
func TestStorm(t *testing.T) {
	const n = 3000
	l := listen(t, "tcp4", "0.0.0.0:0")
	go broker(l)
	w := watch(t, os.Getpid())
	if failed := storm(t, l, n, 2000); failed > 0 {
		t.Fatalf("%d clients failed", failed)
	}
	time.Sleep(100 * time.Millisecond)
	total := w.end(l)
	if total.Opened != n || total.Closed != n || total.ClosedByPeer != n {
		t.Errorf("%+v, want %d of each", total, n)
	}
	if wrong := w.wrong(n); wrong > n/1000 {
		t.Errorf("the facts of %d of %d clients are wrong", wrong, n)
	}
}

// BenchmarkStorm is TestStorm in large, at 5000 connections a second: what is
// lost, and what it costs the kernel for each connection.
func BenchmarkStorm(b *testing.B) {
	statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	defer statistics.Close()
	l := listen(b, "tcp4", "0.0.0.0:0")
	go broker(l)
	w := watch(b, os.Getpid())
	b.ResetTimer()
	if failed := storm(b, l, b.N, 5000); failed > 0 {
		b.Fatalf("%d clients failed", failed)
	}
	b.StopTimer()
	time.Sleep(100 * time.Millisecond)
	var kernel time.Duration
	for _, program := range []*ebpf.Program{w.programs.FromOutside, w.programs.FromTarget, w.programs.Reset, w.packets.Load().program.Filter} {
		stats, err := program.Stats()
		if err != nil {
			b.Fatal(err)
		}
		kernel += stats.Runtime
		b.ReportMetric(float64(stats.Runtime.Nanoseconds())/float64(max(stats.RunCount, 1)), program.String()+"-ns/run")
	}
	counts, err := w.packets.Load().program.Counts()
	if err != nil {
		b.Fatal(err)
	}
	n := float64(b.N)
	total := w.end(l)
	b.ReportMetric(n/b.Elapsed().Seconds(), "connections/s")
	b.ReportMetric(float64(kernel.Nanoseconds())/n, "kernel-ns/connection")
	b.ReportMetric(float64(counts.Packets)/n, "packets/connection")
	b.ReportMetric(n-float64(total.Opened), "uncounted")
	b.ReportMetric(float64(w.Stats().Lost), "lost")
	b.ReportMetric(float64(w.wrong(b.N)), "wrong")
}

// BenchmarkRecords measures what a connection costs user space: four records.
func BenchmarkRecords(b *testing.B) {
	listener := &Listener{}
	t := newTable(&listeners{byNumber: map[uint32]*Listener{0: listener}})
	b.ReportAllocs()
	for i := range b.N {
		ends := bpf.Endpoints{LocalPort: 1883, RemotePort: uint16(i)}
		for at, event := range []uint16{bpf.ConnectionOpened, 0, 1, bpf.ConnectionClosed} {
			r := record{ConnectionRecord: bpf.ConnectionRecord{Type: bpf.RecordConnection, Event: event, Time: uint64(4*i + at), Ends: ends}}
			if at == 1 || at == 2 {
				r.Type = uint32(bpf.RecordSpoke + at - 1)
				r.speech = &speech{bpf.Speech{Type: r.Type, Mqtt: 1, Whole: 1, Level: 4, Length: 20, Ends: bpf.Speech{}.Ends}}
			}
			t.add(&r, func(Event) {})
		}
	}
}

// BenchmarkMessages measures what the filter costs the kernel for a packet of a
// connection that has said its first words.
func BenchmarkMessages(b *testing.B) {
	statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	defer statistics.Close()
	l := listen(b, "tcp4", "127.0.0.1:0")
	w := watch(b, os.Getpid())
	client, server := pair(b, l, "tcp4", l.Addr().String())
	message := make([]byte, 100)
	ping := func(n int) {
		for range n {
			client.Write(message)
			io.ReadFull(server, message)
			server.Write(message)
			io.ReadFull(client, message)
		}
	}
	ping(10)
	before, err := w.packets.Load().program.Filter.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	ping(b.N)
	b.StopTimer()
	after, err := w.packets.Load().program.Filter.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((after.Runtime-before.Runtime).Nanoseconds())/float64(after.RunCount-before.RunCount), "kernel-ns/packet")
	client.Close()
	server.Close()
	w.end(l)
}
