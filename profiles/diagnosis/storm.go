package diagnosis

import (
	"fmt"
	"slices"
	"time"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// minConnects are needed to tell how clients behave.
const minConnects = 20

// storm judges a connection storm: clients cause the load, and do not behave.
// Many clients that connect and behave are no storm. How they behave is known
// from plain MQTT and from the log; TLS hides the first.
func storm(e *evidence, c *attribution.Cause) *finding {
	cpu, figures := e.cpu(c)
	rate, rateFigures := e.connectRate(c)
	behaviour, behaviourFigures := e.behaviour(c)
	f := &finding{evidence: append(append(figures, rateFigures...), behaviourFigures...)}
	switch {
	case behaviour == yes && cpu == yes && rate != no:
		f.verdict = summary.VerdictLikely
	case behaviour == yes:
		f.verdict = summary.VerdictPossible
	case behaviour == no || rate == no:
		f.verdict = summary.VerdictUnlikely
	case cpu == yes && rate == yes && e.goesOn(c):
		f.verdict = summary.VerdictLikely
	case cpu == yes:
		f.verdict = summary.VerdictPossible
		f.surer = append(f.surer, "how the clients behave is not known: "+e.hidden())
	case cpu == unknown && rate == yes:
		f.verdict = summary.VerdictPossible
		f.surer = append(f.surer, tooFew)
	case cpu == unknown && len(c.Workloads) == 0:
		f.verdict = summary.VerdictUnknown
		f.surer = append(f.surer, e.hidden())
	case cpu == unknown:
		f.verdict = summary.VerdictUnknown
		f.surer = append(f.surer, tooFew)
	default:
		f.verdict = summary.VerdictUnlikely
	}
	return f
}

// clientListeners returns where clients connect: other nodes' connections are no
// part of a storm.
func clientListeners(n *summary.Summary) []summary.Listener {
	return slices.DeleteFunc(slices.Clone(n.Connections.Listeners), summary.Listener.OfNodes)
}

// connectRate tells whether clients connect to any node at a rate that is a load.
func (e *evidence) connectRate(c *attribution.Cause) (answer, []string) {
	best, figures := unknown, []string(nil)
	for _, n := range e.nodes {
		if n.Connections == nil || n.Window.Duration <= 0 {
			continue
		}
		opened, peak := 0.0, 0.0
		for _, l := range clientListeners(n) {
			opened += l.OpenedPerSecond
			peak = max(peak, l.PeakPerSecond)
		}
		if opened >= c.Thresholds[attribution.ConnectsPerSecond].At {
			best = yes
		} else {
			best = max(best, no)
		}
		figures = append(figures, fmt.Sprintf("%sclients open %.1f connections/s, %.0f at the peak", e.on(n), opened, peak))
	}
	return best, figures
}

// behaviour tells whether clients misbehave. It is unknown if neither MQTT nor
// signals in the log say anything; a log without signals is no proof of the
// contrary, since not every storm writes them.
func (e *evidence) behaviour(c *attribution.Cause) (answer, []string) {
	misbehave, plain, opened := unknown, uint64(0), uint64(0)
	var figures []string
	for _, n := range e.nodes {
		if n.Connections == nil {
			continue
		}
		for _, l := range clientListeners(n) {
			opened += l.Opened
		}
		m := n.Connections.MQTT
		if m == nil || m.Connects < minConnects {
			continue
		}
		plain += m.Connects
		perClient := 0.0
		if m.Clients > 0 {
			perClient = float64(m.Connects) / float64(m.Clients)
		}
		without, over := float64(m.WithoutConnack)/float64(m.Connects), float64(m.TakenOver)/float64(m.Connects)
		if without >= c.Thresholds[attribution.WithoutConnack].At || over >= c.Thresholds[attribution.TakenOver].At ||
			perClient >= c.Thresholds[attribution.ConnectsPerClient].At && m.Connects > m.Clients {
			misbehave = yes
		} else {
			misbehave = max(misbehave, no)
		}
		figures = append(figures, fmt.Sprintf("%s%d client ids sent %d CONNECTs: %.0f%% were closed before the CONNACK, %.0f%% came while their id was still connected",
			e.on(n), m.Clients, m.Connects, 100*without, 100*over))
	}
	if misbehave == no && 2*plain < opened {
		misbehave = unknown // most connections are opaque
	}
	if e.hopping > 0 {
		figures = append(figures, fmt.Sprintf("%d of the busiest client ids connected to more than one node", e.hopping))
	}
	lines, known, said := e.logs(c)
	figures = append(figures, said...)
	if e.seconds > 0 && float64(lines)/e.seconds >= c.Thresholds[attribution.LinesPerSecond].At {
		misbehave = yes
	}
	if known && len(said) == 0 && len(c.Signals) > 0 {
		figures = append(figures, "log: no line that tells of clients in each other's way")
	}
	return misbehave, figures
}

// goesOn tells whether the log of a node, up to an hour back, has the cause's
// signals at a rate that tells of trouble, and in the window still. Where a node
// or its clients get too little of the CPU, a window may have no more than one.
func (e *evidence) goesOn(c *attribution.Cause) bool {
	for _, n := range e.nodes {
		end := n.Window.Start.Add(time.Duration(n.Window.Duration * float64(time.Second)))
		perSecond := 0.0
		for _, l := range n.Logs {
			if slices.Contains(c.Signals, l.Signal) && l.InWindow > 0 {
				perSecond += float64(l.Count) / max(end.Sub(l.First).Seconds(), n.Window.Duration, 1)
			}
		}
		if perSecond >= c.Thresholds[attribution.LinesPerSecond].At {
			return true
		}
	}
	return false
}

// hidden says why it is not known how clients behave.
func (e *evidence) hidden() string {
	for _, n := range e.nodes {
		if n.Connections == nil {
			return "connections were not looked at"
		}
		for _, l := range clientListeners(n) {
			if opaque := l.Protocol == summary.ProtocolTLS || l.Protocol == summary.ProtocolWebSocket; opaque && l.Opened >= minConnects {
				return text.Clean(l.Protocol) + " is opaque; if it ends in front of the node, record there, or ask the log: who connects how often?"
			}
		}
	}
	return "not enough plain MQTT was seen; record longer"
}
