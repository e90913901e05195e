package connections

import (
	"net/netip"
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

// life counts a connection that was opened and closed at the given times; one
// of them may be 0.
func life(b *Builder, remote string, opened, closed uint64, by connections.ClosedBy) {
	c := &connections.Connection{Listener: mqtt, Remote: netip.MustParseAddrPort(remote), Opened: opened}
	if opened > 0 {
		b.Add(connections.Event{Kind: connections.Opened, Time: opened, Connection: c})
	}
	if closed > 0 {
		c.Closed, c.By = closed, by
		b.Add(connections.Event{Kind: connections.Closed, Time: closed, Connection: c})
	}
}

func TestBuilder(t *testing.T) {
	b := NewBuilder()
	life(b, "10.0.0.1:1000", 10*second, 11*second, connections.ClosedByPeer)
	life(b, "10.0.0.1:1001", 10*second, 13*second, connections.ClosedByPeer)
	life(b, "10.0.0.2:1000", 11*second, 13*second, connections.ClosedByTarget)
	life(b, "[2001:db8::1]:1000", 11*second, 0, 0)
	life(b, "10.0.0.3:1000", 0, 12*second, connections.ClosedByNobody)
	totals := []connections.Totals{{Listener: mqtt, Opened: 4, Closed: 4, ClosedByPeer: 2, ClosedByTarget: 1}}

	s := b.Summary(2*time.Second, totals, connections.Stats{Lost: 7})
	want := summary.Listener{
		Address: "0.0.0.0:1883", Protocol: summary.ProtocolUnknown, Opened: 4, OpenedPerSecond: 2, PeakPerSecond: 2,
		Closed: 4, ClosedByPeer: 2, MedianLifetimeSeconds: 2,
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
	got := map[key][3]int64{}
	for _, sample := range p.Sample {
		if place := sample.Location[1].Line[0].Function.Name; place != "0.0.0.0:1883" {
			t.Errorf("a connection to %s", place)
		}
		k := key{remote: sample.Location[0].Line[0].Function.Name}
		if by := sample.Label["closed_by"]; len(by) == 1 {
			k.by = by[0]
		}
		got[k] = [3]int64(sample.Value)
	}
	for k, want := range map[key][3]int64{
		{"10.0.0.1", "client"}:  {2, 2, 4e9},
		{"10.0.0.2", "server"}:  {1, 1, 2e9},
		{"2001:db8::1", ""}:     {1, 0, 0},
		{"10.0.0.3", "neither"}: {0, 1, 0},
	} {
		if got[k] != want {
			t.Errorf("%v: %v, want %v", k, got[k], want)
		}
	}
	if len(p.Sample) != 4 {
		t.Errorf("%d rows", len(p.Sample))
	}
}

// Nothing grows without bound, and nothing is lost by that.
func TestBuilderCrowded(t *testing.T) {
	b := NewBuilder()
	const connects = maxRemotes + 1000
	for i := range uint64(connects) {
		c := &connections.Connection{
			Listener: mqtt, Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1),
			Opened: second, Closed: 2 * second, By: connections.ClosedByPeer,
		}
		b.Add(connections.Event{Kind: connections.Opened, Time: second, Connection: c})
		b.Add(connections.Event{Kind: connections.Closed, Time: 2 * second, Connection: c})
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
