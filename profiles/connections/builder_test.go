package connections

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/profiles/summary"
)

var (
	mqtt  = &connections.Listener{Address: netip.MustParseAddrPort("0.0.0.0:1883")}
	start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
)

const second = uint64(1e9)

var lastID uint64

func nextID() uint64 { lastID++; return lastID }

// life counts a connection that was opened and closed at the given times; one
// of them may be 0.
func life(b *Builder, remote string, opened, closed uint64, by connections.ClosedBy) {
	c := &connections.Connection{ID: nextID(), Listener: mqtt, Remote: netip.MustParseAddrPort(remote), Opened: opened, Protocol: connections.ProtocolUnknown}
	if opened > 0 {
		b.Add(connections.Event{Kind: connections.Opened, Time: opened, Connection: *c})
	}
	if closed > 0 {
		c.Closed, c.By = closed, by
		b.Add(connections.Event{Kind: connections.Closed, Time: closed, Connection: *c})
	}
}

func TestBuilder(t *testing.T) {
	b := NewBuilder(Options{})
	life(b, "10.0.0.1:1000", 10*second, 11*second, connections.ClosedByPeer)
	life(b, "10.0.0.1:1001", 10*second, 13*second, connections.ClosedByPeer)
	life(b, "10.0.0.2:1000", 11*second, 13*second, connections.ClosedByTarget)
	life(b, "[2001:db8::1]:1000", 11*second, 0, 0)
	life(b, "10.0.0.3:1000", 0, 12*second, connections.ClosedByNobody)
	totals := []connections.Totals{{Listener: mqtt, Opened: 4, Closed: 4, ClosedByPeer: 2, ClosedByTarget: 1}}

	s := b.Summary(2*time.Second, totals, connections.Stats{Lost: 7})
	want := summary.Listener{
		Address: "0.0.0.0:1883", Protocol: summary.ProtocolUnknown, Opened: 4, OpenedPerSecond: 2, PeakPerSecond: 2,
		Closed: 4, ClosedByPeer: 2, ClosedByTarget: 1, MedianLifetimeSeconds: 2,
	}
	if len(s.Listeners) != 1 || s.Listeners[0] != want || s.Lost != 7 {
		t.Errorf("%+v, want %+v", s, want)
	}
	if len(s.Remotes) != 4 || s.Remotes[0] != (summary.Remote{Address: "10.0.0.1", Opened: 2, Closed: 2}) {
		t.Errorf("%+v", s.Remotes)
	}

	p, err := b.Profile(Info{Start: start, Duration: 2 * time.Second, Totals: totals})
	if err != nil {
		t.Fatal(err)
	}
	type key struct{ remote, by string }
	got := map[key][5]int64{}
	for _, sample := range p.Sample {
		if place := sample.Location[1].Line[0].Function.Name; place != "0.0.0.0:1883" {
			t.Errorf("a connection to %s", place)
		}
		k := key{remote: sample.Location[0].Line[0].Function.Name}
		if by := sample.Label["closed_by"]; len(by) == 1 {
			k.by = by[0]
		}
		got[k] = [5]int64(sample.Value)
	}
	for k, want := range map[key][5]int64{
		{"10.0.0.1", "client"}:  {2, 2, 0, 0, 4e9},
		{"10.0.0.2", "server"}:  {1, 1, 0, 0, 2e9},
		{"2001:db8::1", ""}:     {1, 0, 0, 0, 0},
		{"10.0.0.3", "neither"}: {0, 1, 0, 0, 0},
	} {
		if got[k] != want {
			t.Errorf("%v: %v, want %v", k, got[k], want)
		}
	}
	if len(p.Sample) != 4 {
		t.Errorf("%d rows", len(p.Sample))
	}
}

// session is a client's connection: a CONNECT, an answer unless the code is
// negative, and the end unless that is 0.
func session(b *Builder, id string, opened, closed uint64, code int) {
	c := &connections.Connection{ID: nextID(), Listener: mqtt, Remote: netip.MustParseAddrPort("10.0.0.1:1000"), Opened: opened, Protocol: connections.ProtocolUnknown}
	b.Add(connections.Event{Kind: connections.Opened, Time: opened, Connection: *c})
	c.Protocol, c.Connect = connections.ProtocolMQTT, &connections.Connect{ClientID: id, Version: "3.1.1", Clean: true}
	b.Add(connections.Event{Kind: connections.Spoke, Time: opened, Connection: *c})
	if code >= 0 {
		c.Connect = &connections.Connect{ClientID: id, Version: "3.1.1", Clean: true, Connack: true, Code: uint8(code)}
		b.Add(connections.Event{Kind: connections.Answered, Time: opened, Connection: *c})
	}
	if closed > 0 {
		c.Closed, c.By = closed, connections.ClosedByPeer
		b.Add(connections.Event{Kind: connections.Closed, Time: closed, Connection: *c})
	}
}

func TestBuilderMQTT(t *testing.T) {
	for _, clear := range []bool{false, true} {
		b := NewBuilder(Options{ClientIDs: clear})
		session(b, "sensor-1", 10*second, 0, 0)
		session(b, "sensor-1", 11*second, 12*second, -1) // takes over, gives up
		session(b, "sensor-1", 13*second, 14*second, 5)  // takes over, is refused
		session(b, "sensor-2", 13*second, 14*second, 0)
		session(b, "sensor-2", 15*second, 16*second, 0) // not at one time
		session(b, "", 13*second, 0, 0)
		session(b, "", 13*second, 0, 0) // no one knows whose

		s := b.Summary(time.Second, []connections.Totals{{Listener: mqtt, Opened: 7, Closed: 4, ClosedByPeer: 4}}, connections.Stats{Detail: connections.Full})
		want := summary.MQTT{
			Connects: 7, Connacks: 6, Refused: 1, WithoutConnack: 1, Clients: 2, Repeated: 2, TakenOver: 2, CleanSession: 7,
			Versions: map[string]uint64{"3.1.1": 7},
		}
		if s.MQTT == nil || !reflect.DeepEqual(*s.MQTT, want) {
			t.Errorf("%+v, want %+v", s.MQTT, want)
		}
		if l := s.Listeners[0]; l.Protocol != summary.ProtocolMQTT || l.ClosedBeforeConnack != 1 {
			t.Errorf("%+v", l)
		}
		if c := (summary.Client{ID: "sensor-1", Connects: 3, Nodes: 1, WithoutConnack: 1, TakenOver: 2}); len(s.Clients) != 2 || s.Clients[0] != c {
			t.Errorf("%+v, want %+v", s.Clients, c)
		}

		p, err := b.Profile(Info{Start: start})
		if err != nil {
			t.Fatal(err)
		}
		var total [5]int64
		clients := map[string]int64{}
		for _, sample := range p.Sample {
			for i, v := range sample.Value {
				total[i] += v
			}
			if name := sample.Label["client"]; len(name) == 1 {
				clients[name[0]] += sample.Value[0]
			}
		}
		if total != [5]int64{7, 4, 1, 2, 4e9} {
			t.Errorf("%v", total)
		}
		names := map[string]int64{"client-75fcce4506e2": 3, "client-3fa50f3cdbe4": 2}
		if clear {
			names = map[string]int64{"sensor-1": 3, "sensor-2": 2}
		}
		if !reflect.DeepEqual(clients, names) {
			t.Errorf("%v, want %v", clients, names)
		}
		if strings.Contains(p.String(), "sensor") != clear {
			t.Errorf("client ids as they are: %v, want %v", !clear, clear)
		}
	}
}

// A connection that is open from one window to the next is known in both.
func TestBuilderNext(t *testing.T) {
	b := NewBuilder(Options{})
	c := &connections.Connection{ID: nextID(), Listener: mqtt, Remote: netip.MustParseAddrPort("10.0.0.1:1000"), Opened: second, Protocol: connections.ProtocolMQTT}
	c.Connect = &connections.Connect{ClientID: "sensor", Version: "5", Connack: true}
	b.Add(connections.Event{Kind: connections.Opened, Time: second, Connection: *c})
	b.Add(connections.Event{Kind: connections.Spoke, Time: second, Connection: *c})
	next := b.Next()
	totals := func(b *Builder) (total [5]int64) {
		p, err := b.Profile(Info{Start: start})
		if err != nil {
			t.Fatal(err)
		}
		for _, sample := range p.Sample {
			for i, v := range sample.Value {
				total[i] += v
			}
		}
		return total
	}
	if s := next.Next().Summary(time.Second, nil, connections.Stats{}); s.MQTT != nil || len(s.Clients) > 0 || !next.Next().Empty() {
		t.Errorf("nothing happened: %+v", s)
	}
	session(next, "sensor", 2*second, 0, 0)
	c.Closed, c.By = 3*second, connections.ClosedByTarget
	next.Add(connections.Event{Kind: connections.Closed, Time: 3 * second, Connection: *c})
	if s := next.Summary(time.Second, nil, connections.Stats{}); s.MQTT == nil || s.MQTT.TakenOver != 1 || s.MQTT.Clients != 1 || s.MQTT.Connects != 1 {
		t.Errorf("%+v", s.MQTT)
	}
	if first, second := totals(b), totals(next); first != [5]int64{1, 0, 0, 0, 0} || second != [5]int64{1, 1, 0, 1, 2e9} {
		t.Errorf("%v, %v", first, second)
	}
}

// Nothing grows without bound, and nothing is lost by that.
func TestBuilderCrowded(t *testing.T) {
	b := NewBuilder(Options{})
	const connects = maxRemotes + 1000
	for i := range uint64(connects) {
		c := &connections.Connection{ID: nextID(),
			Listener: mqtt, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1),
			Opened: second, Closed: 2 * second, By: connections.ClosedByPeer,
		}
		b.Add(connections.Event{Kind: connections.Opened, Time: second, Connection: *c})
		b.Add(connections.Event{Kind: connections.Closed, Time: 2 * second, Connection: *c})
	}
	p, err := b.Profile(Info{Start: start})
	if err != nil {
		t.Fatal(err)
	}
	if opened := sum0(p); len(p.Sample) > maxRows+10 || opened != connects {
		t.Errorf("%d rows, %d connections", len(p.Sample), opened)
	}
	if s := b.Summary(time.Second, nil, connections.Stats{}); len(s.Remotes) != maxListedRemotes || s.Remotes[0].Address != "(others)" || s.Remotes[0].Opened != 1000 {
		t.Errorf("%+v", s.Remotes[:1])
	}
}

func sum0(p *profile.Profile) (total int64) {
	for _, s := range p.Sample {
		total += s.Value[0]
	}
	return total
}
