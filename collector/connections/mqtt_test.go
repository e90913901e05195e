package connections

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// connectPacket is a CONNECT as clients send it.
type connectPacket struct {
	level      byte // 3, 4 or 5
	id         string
	clean      bool
	keepAlive  uint16
	user       string
	password   string
	properties []byte
}

func (p connectPacket) bytes() []byte {
	name := "MQTT"
	if p.level&127 == 3 {
		name = "MQIsdp"
	}
	text := func(b []byte, s string) []byte { return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...) }
	var flags byte
	if p.clean {
		flags |= 2
	}
	if p.user != "" {
		flags |= 0x80
	}
	if p.password != "" {
		flags |= 0x40
	}
	b := binary.BigEndian.AppendUint16(append(text(nil, name), p.level, flags), p.keepAlive)
	if p.level == 5 {
		b = append(variable(b, len(p.properties)), p.properties...)
	}
	b = text(b, p.id)
	if p.user != "" {
		b = text(b, p.user)
	}
	if p.password != "" {
		b = text(b, p.password)
	}
	return append(variable([]byte{0x10}, len(b)), b...)
}

// variable appends one of MQTT's numbers of variable length.
func variable(b []byte, n int) []byte {
	for ; n > 127; n >>= 7 {
		b = append(b, byte(n)|128)
	}
	return append(b, byte(n))
}

// readPacket reads one packet of MQTT and returns its body.
func readPacket(r io.Reader) ([]byte, error) {
	var head [1]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	length := 0
	for shift := 0; shift < 28; shift += 7 {
		var b [1]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		length |= int(b[0]&127) << shift
		if b[0] < 128 {
			break
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(r, body)
	return body, err
}

// answers of broker, by the end of a client id.
const (
	refused   = "-refused"
	noConnack = "-unanswered"
)

// broker answers each CONNECT, and waits for the client to close.
func broker(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			body, err := readPacket(c)
			if err != nil {
				return
			}
			switch {
			case bytes.Contains(body, []byte(noConnack)):
			case bytes.Contains(body, []byte(refused)) && bytes.Contains(body, []byte("MQTT\x05")):
				c.Write([]byte{0x20, 3, 0, 0x87, 0})
			case bytes.Contains(body, []byte(refused)):
				c.Write([]byte{0x20, 2, 0, 5})
			case bytes.Contains(body, []byte("MQTT\x05")):
				c.Write([]byte{0x20, 6, 0, 0, 3, 0x21, 0, 10})
			default:
				c.Write([]byte{0x20, 2, 0, 0})
			}
			io.Copy(io.Discard, c)
		}()
	}
}

// connect sends a CONNECT in the given parts, waits for its CONNACK if there is
// to be one, and closes.
func connect(t *testing.T, network, at string, parts ...[]byte) {
	t.Helper()
	c, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, part := range parts {
		if i > 0 {
			time.Sleep(2 * time.Millisecond) // or they go as one segment
		}
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Contains(bytes.Join(parts, nil), []byte(noConnack)) {
		return
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := readPacket(c); err != nil {
		t.Fatal(err)
	}
}

// closedConnections returns the connections by the order of their ends.
func (w *watched) closedConnections() (all []*Connection) {
	for _, e := range w.events {
		if e.Kind == Closed {
			all = append(all, &e.Connection)
		}
	}
	return all
}

func TestMQTT(t *testing.T) {
	long := strings.Repeat("0123456789", 30)
	packets := []connectPacket{
		{level: 3, id: "three-1", clean: true, keepAlive: 60},
		{level: 4, id: "three-1-1", keepAlive: 65535, user: "user", password: "password"},
		{level: 4, id: "", clean: true},
		{level: 4, id: "refused" + refused, clean: true, keepAlive: 1},
		{level: 4, id: "gives-up" + noConnack, keepAlive: 10},
		{level: 5, id: "five", clean: true, keepAlive: 30},
		{level: 5, id: "five-properties", properties: append([]byte{0x11, 0, 0, 0, 10, 0x15, 0, 5}, "SCRAM"...)},
		{level: 5, id: "five-refused" + refused},
		{level: 5, id: "many-properties", properties: bytes.Repeat(append([]byte{0x26, 0, 10, 0, 10}, long[:20]...), 12)},
		{level: 4, id: long, clean: true},
		{level: 4, id: "long password", password: long + long + long},
	}
	for name, where := range map[string]struct{ listen, network, at string }{
		"IPv4":          {"tcp4", "tcp4", "127.0.0.1"},
		"IPv6":          {"tcp6", "tcp6", "[::1]"},
		"IPv4 to IPv6":  {"tcp", "tcp4", "[::]"},
		"every address": {"tcp4", "tcp4", "0.0.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, where.listen, where.at+":0")
			go broker(l)
			at := l.Addr().String()
			if where.network == "tcp4" {
				at = fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port)
			}
			w := watch(t, os.Getpid())
			for _, p := range packets {
				connect(t, where.network, at, p.bytes())
				time.Sleep(2 * time.Millisecond) // so that they end one by one
			}
			w.end(l)
			all := w.closedConnections()
			if len(all) != len(packets) {
				t.Fatalf("%d connections, want %d", len(all), len(packets))
			}
			for i, p := range packets {
				if got, want := all[i].Connect, p.want(); got == nil || *got != want || all[i].Protocol != ProtocolMQTT {
					t.Errorf("%+v, want %+v", got, want)
				}
			}
		})
	}
}

// want is what is to be seen of a CONNECT.
func (p connectPacket) want() Connect {
	c := Connect{
		ClientID: p.id[:min(len(p.id), 128)], IDLength: len(p.id), Clean: p.clean, KeepAlive: int(p.keepAlive),
		Version: map[byte]string{3: "3.1", 4: "3.1.1", 5: "5"}[p.level], Connack: !strings.HasSuffix(p.id, noConnack),
	}
	if strings.HasSuffix(p.id, refused) {
		c.Code = map[byte]byte{3: 5, 4: 5, 5: 0x87}[p.level]
	}
	return c
}

// A CONNECT that comes in two or in many segments is the same.
func TestMQTTInParts(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	go broker(l)
	w := watch(t, os.Getpid())
	p := connectPacket{level: 5, id: "in parts", clean: true, keepAlive: 7, properties: append([]byte{0x15, 0, 5}, "SCRAM"...), user: "u", password: "secret"}
	whole := p.bytes()
	var n int
	for at := 1; at < len(whole); at++ {
		connect(t, "tcp4", l.Addr().String(), whole[:at], whole[at:])
		n++
	}
	var single [][]byte
	for i := range whole {
		single = append(single, whole[i:i+1])
	}
	connect(t, "tcp4", l.Addr().String(), single...)
	w.end(l)
	all := w.closedConnections()
	if len(all) != n+1 {
		t.Fatalf("%d connections, want %d", len(all), n+1)
	}
	for i, c := range all {
		if c.Connect == nil || *c.Connect != p.want() {
			t.Errorf("in two parts, of %d bytes the first: %s %+v", i+1, c.Protocol, c.Connect)
		}
	}
}

func TestProtocols(t *testing.T) {
	for name, test := range map[string]struct {
		want  Protocol
		speak func(t *testing.T, client, server net.Conn)
	}{
		"nothing": {ProtocolUnknown, func(*testing.T, net.Conn, net.Conn) {}},
		"TLS": {ProtocolTLS, func(t *testing.T, client, server net.Conn) {
			go tls.Client(client, &tls.Config{InsecureSkipVerify: true}).Handshake()
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(server, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}},
		"HTTP": {ProtocolHTTP, func(t *testing.T, client, server net.Conn) {
			say(t, client, server, "GET /health HTTP/1.1\r\n\r\n")
			say(t, server, client, "HTTP/1.1 200 OK\r\n\r\n")
		}},
		"WebSocket": {ProtocolWebSocket, func(t *testing.T, client, server net.Conn) {
			say(t, client, server, "GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
			say(t, server, client, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			say(t, client, server, string(connectPacket{level: 4, id: "hidden"}.bytes()))
		}},
		"VerneMQ's link": {ProtocolVerneMQ, func(t *testing.T, client, server net.Conn) {
			say(t, client, server, "vmq-connect\x00\x00\x00\x01x")
		}},
		"distribution": {ProtocolDistribution, func(t *testing.T, client, server net.Conn) {
			say(t, client, server, "\x00\x1eN\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0fa@127.0.0.1xxxx")
		}},
		"another": {ProtocolOther, func(t *testing.T, client, server net.Conn) { say(t, client, server, "AMQP\x00\x00\x09\x01") }},
		"almost MQTT": {ProtocolOther, func(t *testing.T, client, server net.Conn) {
			say(t, client, server, "\x10\x0f\x00\x04MQTX\x04\x02\x00\x3c\x00\x03abc")
		}},
		"a PUBLISH where CONNECT is due": {ProtocolOther, func(t *testing.T, client, server net.Conn) { say(t, client, server, "\x30\x06\x00\x01tabc") }},
		"a server that speaks first": {ProtocolMQTT, func(t *testing.T, client, server net.Conn) {
			say(t, server, client, "hello")
			say(t, client, server, string(connectPacket{level: 4, id: "late"}.bytes()))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := listen(t, "tcp4", "127.0.0.1:0")
			w := watch(t, os.Getpid())
			client, server := pair(t, l, "tcp4", l.Addr().String())
			test.speak(t, client, server)
			client.Close()
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			io.Copy(io.Discard, server)
			server.Close()
			w.end(l)
			all := w.closedConnections()
			if len(all) != 1 || all[0].Protocol != test.want || (all[0].Connect != nil) != (test.want == ProtocolMQTT) {
				t.Errorf("%+v, want %s", all[0], test.want)
			}
		})
	}
}

// say writes to one end and waits until it is read at the other.
func say(t *testing.T, from, to net.Conn, what string) {
	t.Helper()
	if _, err := io.WriteString(from, what); err != nil {
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(to, make([]byte, len(what))); err != nil {
		t.Fatal(err)
	}
}

// Neither user name nor password leave the kernel: no record holds a byte of
// them, whatever the segments they come in.
func TestSecretsStayInTheKernel(t *testing.T) {
	testsupport.RequireBPF(t)
	l := listen(t, "tcp4", "127.0.0.1:0")
	go broker(l)
	s, err := Open(os.Getpid(), Full)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.programs.Set(s.settings); err != nil {
		t.Fatal(err)
	}
	if err := s.packets.Load().start(); err != nil {
		t.Fatal(err)
	}
	const id, user, password = "identity", "UUUUUUUUUUUUUUUUUUUU", "PPPPPPPPPPPPPPPPPPPPPPPPPP"
	const connects = 50
	for i := range connects {
		p := connectPacket{level: byte(3 + i%3), id: id[:1+i%len(id)], user: user, password: password}.bytes()
		at := 1 + i%(len(p)-1)
		connect(t, "tcp4", l.Addr().String(), p[:at], p[at:])
		connect(t, "tcp4", l.Addr().String(), p)
	}
	time.Sleep(100 * time.Millisecond)
	var record perf.Record
	ids := 0
	for s.reader.SetDeadline(time.Now().Add(100 * time.Millisecond)); ; {
		err := s.reader.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(record.RawSample, []byte("UU")) || bytes.Contains(record.RawSample, []byte("PP")) {
			t.Fatalf("a record holds a secret: %q", record.RawSample)
		}
		if kind := binary.NativeEndian.Uint32(record.RawSample); kind == bpf.RecordSpoke && record.RawSample[speechHead] == id[0] {
			ids++
		}
	}
	if ids < 2*connects {
		t.Errorf("%d ids were seen, want %d", ids, 2*connects)
	}
}

// A filter that costs too much is taken out, and that is said; connections are
// counted all the same.
func TestBudget(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	go broker(l)
	w := watchWithin(t, os.Getpid(), -1)
	for deadline := time.Now().Add(10 * time.Second); w.Stats().NoSpeech == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it stays")
		}
	}
	connect(t, "tcp4", l.Addr().String(), connectPacket{level: 4, id: "unheard"}.bytes())
	time.Sleep(50 * time.Millisecond)
	w.stop()
	if err := <-w.done; err != nil {
		t.Fatal(err)
	}
	if all := w.closedConnections(); len(all) != 1 || all[0].Connect != nil || all[0].Opened == 0 {
		t.Errorf("%+v", all)
	}
}
