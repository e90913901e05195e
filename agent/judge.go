package agent

import (
	"cmp"
	"slices"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// join adds a window's numbers to those of the windows before, as far as a
// diagnosis rests on them.
func join(to, s *summary.Summary) *summary.Summary {
	if to == nil { // s is others', too
		first := *s
		first.Workloads, first.States, first.Logs = slices.Clone(s.Workloads), slices.Clone(s.States), slices.Clone(s.Logs)
		if s.Connections != nil {
			connections := *s.Connections
			connections.Listeners = slices.Clone(connections.Listeners)
			first.Connections = &connections
		}
		return &first
	}
	to.Window.Duration += s.Window.Duration
	to.CPU.Samples += s.CPU.Samples
	to.CPU.SampledSeconds += s.CPU.SampledSeconds
	to.CPU.ProcessSeconds += s.CPU.ProcessSeconds
	total := to.CPU.SampledSeconds
	for _, w := range s.Workloads {
		i := slices.IndexFunc(to.Workloads, func(known summary.Workload) bool { return known.Name == w.Name })
		if i < 0 {
			i = len(to.Workloads)
			to.Workloads = append(to.Workloads, summary.Workload{Name: w.Name})
		}
		to.Workloads[i].Seconds += w.Seconds
	}
	work := total
	for _, w := range to.Workloads {
		if w.Name == attribution.VM {
			work -= w.Seconds
		}
	}
	for i := range to.Workloads {
		w := &to.Workloads[i]
		w.Share = share(w.Seconds, total)
		if w.Name != attribution.VM {
			w.WithoutVM = share(w.Seconds, work)
		}
	}
	slices.SortStableFunc(to.Workloads, func(a, b summary.Workload) int { return cmp.Compare(b.Seconds, a.Seconds) })
	for _, p := range s.States {
		i := slices.IndexFunc(to.States, func(known summary.Part) bool { return known.Name == p.Name })
		if i < 0 {
			i = len(to.States)
			to.States = append(to.States, summary.Part{Name: p.Name})
		}
		to.States[i].Seconds += p.Seconds
	}
	for i := range to.States {
		to.States[i].Share = share(to.States[i].Seconds, total)
	}
	to.Connections = joinConnections(to.Connections, s.Connections, to.Window.Duration)
	to.Logs = joinLogs(to.Logs, s.Logs, to.Window.Duration)
	return to
}

func share(part, of float64) float64 {
	if of <= 0 {
		return 0
	}
	return part / of
}

func joinConnections(to, c *summary.Connections, seconds float64) *summary.Connections {
	if to == nil || c == nil {
		return cmp.Or(to, c)
	}
	for _, l := range c.Listeners {
		i := slices.IndexFunc(to.Listeners, func(known summary.Listener) bool { return known.Address == l.Address })
		if i < 0 {
			to.Listeners = append(to.Listeners, l)
			continue
		}
		known := &to.Listeners[i]
		if known.Protocol == summary.ProtocolUnknown {
			known.Protocol = l.Protocol
		}
		known.Opened += l.Opened
		known.Closed += l.Closed
		known.ClosedByPeer += l.ClosedByPeer
		known.PeakPerSecond = max(known.PeakPerSecond, l.PeakPerSecond)
		known.OpenedPerSecond = float64(known.Opened) / max(seconds, 1e-3)
	}
	if m := c.MQTT; m != nil {
		if to.MQTT == nil {
			to.MQTT = &summary.MQTT{}
		}
		sum := *to.MQTT // it is a window's, too
		sum.Connects += m.Connects
		sum.Connacks += m.Connacks
		sum.Refused += m.Refused
		sum.WithoutConnack += m.WithoutConnack
		sum.Clients += m.Clients
		sum.Repeated += m.Repeated
		sum.TakenOver += m.TakenOver
		sum.CleanSession += m.CleanSession
		to.MQTT = &sum
	}
	return to
}

func joinLogs(to, logs []summary.Log, seconds float64) []summary.Log {
	for _, l := range logs {
		i := slices.IndexFunc(to, func(known summary.Log) bool { return known.Signal == l.Signal })
		if i < 0 {
			to = append(to, l)
			continue
		}
		l.InWindow += to[i].InWindow
		l.PerSecond = float64(l.InWindow) / max(seconds, 1e-3)
		to[i] = l
	}
	return to
}
