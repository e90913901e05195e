package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/logs"
	churn "github.com/beamprof/beamprof/profiles/connections"
	traffic "github.com/beamprof/beamprof/profiles/distribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/upload"
	"github.com/beamprof/beamprof/profiles/window"
)

// beside is what is looked at of a VM beside its samples: traffic with other
// nodes, connections to its listeners, its logs. What cannot be looked at is left
// out; why is logged once for each VM.
type beside struct {
	vm     *vm
	opened time.Time
	stop   context.CancelFunc
	ended  sync.WaitGroup

	distribution *distribution.Session // nil if it is not looked at, like the others
	connections  *connections.Session
	logs         *logs.Session

	mutex   sync.Mutex // guards what follows
	traffic *traffic.Builder
	churn   *churn.Builder

	last counts // at the end of the window before
}

// counts are what sessions counted since they were opened.
type counts struct {
	nodes     map[string]distribution.Total
	listeners map[netip.AddrPort]connections.Totals
	signals   map[string]logs.Count
	lost      map[string]uint64 // by what was lost
	messages  distribution.Stats
}

// look opens what the configuration asks for.
func (v *vm) look() *beside {
	ctx, stop := context.WithCancel(context.Background())
	b := &beside{vm: v, opened: time.Now(), stop: stop, traffic: traffic.NewBuilder(v.rules), churn: churn.NewBuilder(churn.Options{})}
	settings := v.engine.config.Beside
	if detail, ok := details[settings.Distribution]; ok {
		d, err := distribution.Open(v.target, distribution.Options{Detail: detail})
		if v.looked("traffic with other nodes", err) {
			b.distribution = d
			b.ended.Go(func() { v.looked("traffic with other nodes", d.Run(ctx, b.message)) })
		}
	}
	if detail, ok := speech[settings.Connections]; ok {
		c, err := connections.Open(v.info.PID, detail)
		if v.looked("connections", err) {
			b.connections = c
			b.ended.Go(func() { v.looked("connections", c.Run(ctx, b.connection)) })
		}
	}
	if settings.Logs != off && len(v.rules.Signals) > 0 {
		l, err := logs.Open(logs.Options{PID: v.info.PID, Signals: window.Signals(v.rules)})
		if v.looked("logs", err) {
			b.logs = l
			b.ended.Go(func() { l.Run(ctx) })
		}
	}
	b.last = b.read()
	return b
}

// looked says once why something cannot be looked at, unless the VM has ended.
func (v *vm) looked(what string, err error) bool {
	if err == nil {
		return true
	}
	if _, gone := os.Stat(fmt.Sprintf("/proc/%d", v.info.PID)); gone != nil {
		return false
	}
	v.complaining.Lock()
	defer v.complaining.Unlock()
	if !v.complained[what] {
		v.complained[what] = true
		v.engine.agent.options.Log.Warn().Msgf("%s: the %s cannot be looked at: %v", v.name(), what, err)
	}
	return false
}

func (b *beside) message(m *distribution.Message) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.traffic.Add(m)
}

func (b *beside) connection(e connections.Event) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.churn.Add(e)
}

// read returns what was counted until now.
func (b *beside) read() counts {
	c := counts{nodes: map[string]distribution.Total{}, listeners: map[netip.AddrPort]connections.Totals{}, signals: map[string]logs.Count{}, lost: map[string]uint64{}}
	if b.distribution != nil {
		look := b.distribution.Latest()
		for _, t := range look.Totals {
			c.nodes[t.Node] = t
		}
		c.messages = look.Stats
		c.lost["messages"] = look.Stats.Lost + look.Stats.Malformed
		c.lost["messages_uncounted"] = look.Stats.Uncounted
		c.lost["sockets"] = look.Stats.Missed
	}
	if b.connections != nil {
		totals, _ := b.connections.Totals()
		for _, t := range totals {
			c.listeners[t.Listener.Address] = t
		}
		stats := b.connections.Stats()
		c.lost["connections"] = stats.Lost + stats.Malformed
		c.lost["connections_uncounted"] = stats.Uncounted
	}
	if b.logs != nil {
		result := b.logs.Result()
		for _, count := range result.Counts {
			c.signals[count.Signal.Name] = count
		}
		for _, f := range result.Files {
			c.lost["log_bytes"] += f.Skipped
		}
	}
	return c
}

// since returns what was counted after before.
func (c counts) since(before counts) counts {
	d := counts{nodes: maps.Clone(c.nodes), listeners: maps.Clone(c.listeners), signals: maps.Clone(c.signals), lost: maps.Clone(c.lost)}
	for node, t := range d.nodes {
		b := before.nodes[node]
		t.SentBytes -= min(b.SentBytes, t.SentBytes)
		t.ReceivedBytes -= min(b.ReceivedBytes, t.ReceivedBytes)
		t.SentMessages -= min(b.SentMessages, t.SentMessages)
		t.ReceivedMessages -= min(b.ReceivedMessages, t.ReceivedMessages)
		d.nodes[node] = t
	}
	for address, t := range d.listeners {
		b := before.listeners[address]
		t.Opened -= min(b.Opened, t.Opened)
		t.Closed -= min(b.Closed, t.Closed)
		t.ClosedByPeer -= min(b.ClosedByPeer, t.ClosedByPeer)
		t.ClosedByTarget -= min(b.ClosedByTarget, t.ClosedByTarget)
		d.listeners[address] = t
	}
	for signal, count := range d.signals {
		count.InWindow -= min(before.signals[signal].InWindow, count.InWindow)
		d.signals[signal] = count
	}
	for what, n := range d.lost {
		d.lost[what] = n - min(before.lost[what], n)
	}
	return d
}

// cutMessages ends a window's messages and begins the next one's.
func (b *beside) cutMessages() *traffic.Builder {
	b.mutex.Lock()
	messages := b.traffic
	b.traffic = traffic.NewBuilder(b.vm.rules)
	b.mutex.Unlock()
	messages.Close()
	return messages
}

// cut ends a window: it puts its part, of which messages are cut already, into
// the summary, counts, and returns the profiles by kind.
func (b *beside) cut(messages *traffic.Builder, s *summary.Summary, start time.Time, duration time.Duration) (map[string]*profile.Profile, error) {
	if b.connections != nil {
		b.connections.Flush() // or those of the last seconds are told in the next window
	}
	b.mutex.Lock()
	opened := b.churn
	b.churn = opened.Next()
	now := b.read()
	window := now.since(b.last)
	b.last = now
	b.mutex.Unlock()

	profiles := map[string]*profile.Profile{}
	var errs []error
	keep := func(kind string, p *profile.Profile, err error) {
		if err == nil {
			profiles[kind] = p
		}
		errs = append(errs, err)
	}
	agent, node := b.vm.engine.agent, b.vm.info.NodeName()
	if b.distribution != nil {
		var totals []distribution.Total
		for _, t := range window.nodes {
			totals = append(totals, t)
		}
		s.Distribution = messages.Summary(b.vm.engine.config.Beside.Distribution, totals, now.messages)
		if now.messages.Detail != distribution.Totals {
			p, err := messages.Profile(traffic.Info{
				Version: agent.options.Version, PID: b.vm.info.PID, Node: node, Start: start, Duration: duration, Totals: totals, Stats: now.messages,
			})
			keep(upload.KindDistribution, p, err)
		}
	}
	if b.connections != nil {
		var totals []connections.Totals
		for _, t := range window.listeners {
			totals = append(totals, t)
		}
		stats := b.connections.Stats()
		stats.Lost, stats.Uncounted = window.lost["connections"], window.lost["connections_uncounted"]
		s.Connections = opened.Summary(duration, totals, stats)
		s.Connections.MarkDistribution(now.messages.Ports)
		if !opened.Empty() {
			p, err := opened.Profile(churn.Info{
				Version: agent.options.Version, PID: b.vm.info.PID, Node: node, Start: start, Duration: duration, Totals: totals, Stats: stats,
			})
			keep(upload.KindConnections, p, err)
		}
	}
	if b.logs != nil {
		s.Logs = b.vm.condenseLogs(window.signals, duration)
	}
	agent.metrics.beside(b.vm, s, window)
	return profiles, errors.Join(errs...)
}

func (v *vm) condenseLogs(signals map[string]logs.Count, duration time.Duration) []summary.Log {
	all := []summary.Log{}
	for _, signal := range v.rules.Signals {
		if count, ok := signals[signal.Name]; ok {
			all = append(all, window.Log(count, signal.About, duration.Seconds()))
		}
	}
	return all
}

// end ends what is counted; the last window can be cut.
func (b *beside) end() {
	b.stop()
	b.ended.Wait()
}

// close detaches all sessions.
func (b *beside) close() {
	b.end()
	if b.distribution != nil {
		b.vm.looked("traffic with other nodes", b.distribution.Close())
	}
	if b.connections != nil {
		b.vm.looked("connections", b.connections.Close())
	}
	if b.logs != nil {
		b.vm.looked("logs", b.logs.Close())
	}
}
