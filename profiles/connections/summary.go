package connections

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// Bounds of the summary's lists; the busiest are listed. Clients of several nodes
// are joined by these lists.
const (
	maxListedRemotes = 100
	maxListedClients = 1000
)

// Summary returns the figures of a window of the given length. The totals are
// those of the session: the listeners come from them, the busiest first.
func (b *Builder) Summary(duration time.Duration, totals []connections.Totals, stats connections.Stats) *summary.Connections {
	b.countOpen()
	clients := b.busiestClients()
	s := &summary.Connections{Listeners: []summary.Listener{}, Clients: clients[:min(len(clients), maxListedClients)], Lost: stats.Lost, Uncounted: stats.Uncounted, Detail: summary.DetailTotals}
	if stats.Detail == connections.Full {
		s.Detail = summary.DetailFull
	}
	for _, t := range totals {
		one := summary.Listener{
			Address: t.Listener.Address.String(), Protocol: summary.ProtocolUnknown,
			Opened: t.Opened, Closed: t.Closed, ClosedByPeer: t.ClosedByPeer, ClosedByTarget: t.ClosedByTarget,
		}
		if duration > 0 {
			one.OpenedPerSecond = round(float64(t.Opened) / duration.Seconds())
		}
		if l := b.listeners[t.Listener.Address]; l != nil {
			one.Protocol = l.protocol()
			one.PeakPerSecond = float64(l.peak)
			one.ClosedBeforeConnack = l.withoutConnack
			one.MedianLifetimeSeconds = round(median(l.lifetimes))
		}
		s.Listeners = append(s.Listeners, one)
	}
	slices.SortStableFunc(s.Listeners, func(a, b summary.Listener) int {
		return cmp.Or(cmp.Compare(b.Opened+b.Closed, a.Opened+a.Closed), cmp.Compare(a.Address, b.Address))
	})
	s.Remotes = b.busiestRemotes()
	if b.mqtt.Connects > 0 {
		mqtt := b.mqtt
		mqtt.Clients = uint64(len(clients))
		s.MQTT = &mqtt
	}
	return s
}

// protocol is that of most connections, unknown only if it is of all.
func (l *listener) protocol() string {
	most, n := connections.ProtocolUnknown, uint64(0)
	for protocol, count := range l.protocols {
		if protocol != connections.ProtocolUnknown && (count > n || count == n && protocol < most) {
			most, n = protocol, count
		}
	}
	return string(most)
}

// busiestClients returns the clients that connected, the busiest first.
func (b *Builder) busiestClients() []summary.Client {
	all := make([]summary.Client, 0, len(b.clients))
	for id, one := range b.clients {
		if one.connects == 0 { // its connection is from before
			continue
		}
		all = append(all, summary.Client{ID: text.Clean(id), Connects: one.connects, Nodes: 1, WithoutConnack: one.withoutConnack, TakenOver: one.takenOver})
	}
	slices.SortFunc(all, func(a, b summary.Client) int {
		return cmp.Or(cmp.Compare(b.Connects, a.Connects), cmp.Compare(a.ID, b.ID))
	})
	return all
}

func (b *Builder) busiestRemotes() []summary.Remote {
	var all []summary.Remote
	for address, r := range b.remotes {
		all = append(all, summary.Remote{Address: remoteName(address), Opened: r.opened, Closed: r.closed})
	}
	slices.SortFunc(all, func(a, b summary.Remote) int {
		return cmp.Or(cmp.Compare(b.Opened+b.Closed, a.Opened+a.Closed), cmp.Compare(a.Address, b.Address))
	})
	return all[:min(len(all), maxListedRemotes)]
}

// remoteName writes a remote address; the zero address stands for all those
// there was no room for.
func remoteName(a netip.Addr) string {
	if !a.IsValid() {
		return "(others)"
	}
	return a.String()
}

// median returns the median, 0 of nothing. It sorts its argument.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// round keeps six decimals: more would be noise.
func round(x float64) float64 { return float64(int64(x*1e6+0.5)) / 1e6 }
