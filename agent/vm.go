package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/diagnosis"
	traffic "github.com/beamprof/beamprof/profiles/distribution"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload"
	"github.com/beamprof/beamprof/profiles/window"
)

// vm is one VM being profiled.
type vm struct {
	engine   *engine
	info     beam.Info
	rules    *attribution.Rules
	target   *beam.Target
	attached time.Time
	source   *sampler.Source

	cutting     sync.Mutex // one window ends at a time; guards what follows
	window      *window.CPU
	collections map[*collection]bool
	gone        bool
	beside      *beside // nil before run
	costs       map[string]peerCosts

	complaining sync.Mutex
	complained  map[string]bool // what was said that cannot be looked at
}

// peerCosts is what the messages to and from another node cost, by workload, when
// some were looked into.
type peerCosts struct {
	workloads map[string]float64
	at        time.Time
}

// costsLast is how long a split of the time of a connection holds. The probes are
// in the VM for a part of the time, so a short window may have no messages of it.
const costsLast = time.Minute

// renewAfter is how long a VM's names are kept: what it had once (code that was
// purged, for instance) does not stay for as long as the agent runs.
const renewAfter = time.Hour

// newVM attaches to a VM and begins to sample it.
func newVM(e *engine, pid int) (*vm, error) {
	target, err := beam.Attach(pid)
	if err != nil {
		return nil, err
	}
	v := &vm{engine: e, info: target.Info, target: target, attached: time.Now(), collections: map[*collection]bool{}, costs: map[string]peerCosts{}, complained: map[string]bool{}}
	if v.rules = e.config.rules; v.rules == nil {
		v.rules = attribution.Choose(target.Code.Modules())
	}
	v.window = v.newWindow()
	if v.source, err = e.sampler.Add(target, v.window.Add); err != nil {
		return nil, errors.Join(err, target.Close())
	}
	return v, nil
}

// name names the VM in messages.
func (v *vm) name() string {
	if node := v.info.NodeName(); node != "" {
		return fmt.Sprintf("%s (pid %d)", text.Clean(node), v.info.PID)
	}
	return fmt.Sprintf("the VM with pid %d", v.info.PID)
}

func (v *vm) newWindow() *window.CPU {
	w := window.New(window.Options{
		Version: v.engine.agent.options.Version, Kernel: v.engine.agent.kernel, Info: v.info,
		Frequency: v.engine.config.Sampling.Frequency, Rules: v.rules,
	})
	if detail, ok := details[v.engine.config.Beside.Distribution]; ok && detail != distribution.Totals {
		w.AwaitMessages()
	}
	return w
}

// run ends windows and makes profiles of them, until ctx is done or the VM ends.
func (v *vm) run(ctx context.Context) {
	settings := v.engine.config.Sampling
	ticks := time.NewTicker(settings.Window)
	defer ticks.Stop()
	defer func() { v.target.Close() }()
	looking := v.look()
	v.cutting.Lock()
	v.beside = looking
	v.cutting.Unlock()
	period := v.collect()
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			v.end(period)
			return
		case <-ticks.C:
		}
		err := v.cut()
		if err != nil {
			v.log(err)
			v.end(period)
			return
		}
		// A window that ends a little early counts: the next one is a whole one later.
		if time.Since(began) > settings.Profile-settings.Window/2 {
			began = time.Now()
			ended := period
			period = v.next(ended)
			v.upload(ended)
			if v.renew() {
				v.engine.agent.options.Log.Info().Msgf("%s is another node than when it was started: it is begun with anew", v.name())
				v.end(period)
				return
			}
		}
	}
}

func (v *vm) log(err error) {
	log := v.engine.agent.options.Log
	if errors.Is(err, sampler.ErrTargetExited) {
		log.Info().Msgf("%s has ended", v.name())
		return
	}
	log.Warn().Err(err).Msgf("%s is not profiled any more", v.name())
}

// collect begins a collection, at the end of the current window.
func (v *vm) collect() *collection {
	c := &collection{}
	v.cutting.Lock()
	defer v.cutting.Unlock()
	v.collections[c] = true
	return c
}

// next ends a collection and begins one that goes on from there.
func (v *vm) next(c *collection) *collection {
	next := &collection{}
	v.cutting.Lock()
	defer v.cutting.Unlock()
	delete(v.collections, c)
	v.collections[next] = true
	return next
}

// finish ends a collection.
func (v *vm) finish(c *collection) {
	v.cutting.Lock()
	delete(v.collections, c)
	v.cutting.Unlock()
}

// cut ends the window and adds it to all that is collected. The error says that
// there will be no other.
func (v *vm) cut() error {
	v.cutting.Lock()
	defer v.cutting.Unlock()
	if v.gone {
		return sampler.ErrTargetExited
	}
	ended, next := v.window, v.newWindow()
	stats, err := v.source.Cut(next.Add)
	v.window = next
	v.add(ended, stats)
	return err
}

// add adds a window that ended.
func (v *vm) add(w *window.CPU, stats sampler.Stats) {
	var messages *traffic.Builder
	if v.beside != nil {
		messages = v.beside.cutMessages()
		now := time.Now()
		for peer, workloads := range messages.Costs() {
			v.costs[peer] = peerCosts{workloads, now}
		}
		for peer, costs := range v.costs {
			if now.Sub(costs.at) > costsLast {
				delete(v.costs, peer)
				continue
			}
			w.CountMessages(peer, costs.workloads)
		}
	}
	w.Close()
	s := w.Summary(stats, "")
	v.engine.agent.metrics.window(v, s, stats)
	profiles := map[string]*profile.Profile{}
	var err error
	if v.beside != nil {
		profiles, err = v.beside.cut(messages, s, stats.Start, stats.Duration)
	}
	cpu, failed := w.Profile(stats)
	if failed == nil {
		profiles[upload.KindCPU] = cpu
	}
	for c := range v.collections {
		c.add(profiles, stats, s, errors.Join(err, failed))
	}
}

// end ends the last window and uploads what is left.
func (v *vm) end(period *collection) {
	v.cutting.Lock()
	v.gone = true
	stats, err := v.source.Remove()
	v.beside.end()
	v.add(v.window, stats)
	v.beside.close()
	v.cutting.Unlock()
	if err != nil {
		v.engine.agent.options.Log.Warn().Err(err).Msgf("the sampling of %s did not end well", v.name())
	}
	v.upload(period)
	v.engine.agent.metrics.ended(v)
}

// renew attaches anew, once in a while. It tells whether the VM is no longer the
// node that it was attached to as: then it must be begun with anew.
func (v *vm) renew() (other bool) {
	age := time.Since(v.attached)
	young := age < settleAfter
	if young && time.Since(v.beside.opened) <= relookAfter-v.engine.config.Sampling.Window || !young && age < renewAfter {
		return false
	}
	next, err := beam.Attach(v.info.PID)
	if err == nil {
		defer func() { next.Close() }()
		if next.Info.Node != v.info.Node || v.engine.config.rules == nil && attribution.Choose(next.Code.Modules()).Name != v.rules.Name {
			return true
		}
		if young { // it may have listeners and logs by now that it had not
			v.relook()
			return false
		}
		v.attached = time.Now()
		if err = v.source.Renew(next); err == nil {
			v.target, next = next, v.target
			v.relook()
		}
	}
	if err != nil && !errors.Is(err, beam.ErrNoProcess) {
		v.engine.agent.options.Log.Warn().Err(err).Msgf("%s could not be attached to anew: its old names are kept", v.name())
	}
	return false
}

// settleAfter is how long a VM may take to get its name, to load its code and to
// open its listeners and logs; they are looked for each relookAfter until then.
const settleAfter = 5 * time.Minute

var relookAfter = time.Minute // tests do not wait that long

// relook opens what is looked at beside samples anew.
func (v *vm) relook() {
	next := v.look()
	v.cutting.Lock()
	before := v.beside
	v.beside = next
	v.cutting.Unlock()
	before.close()
}

// labels are those of all profiles of the VM.
func (v *vm) labels() map[string]string {
	labels := map[string]string{"service_name": "beam", "host": v.engine.agent.host}
	if node := text.Clean(v.info.NodeName()); node != "" {
		labels["node"] = node
		labels["service_name"], _, _ = strings.Cut(node, "@")
	}
	maps.Copy(labels, v.engine.config.Labels)
	return labels
}

// upload hands a collection that has ended to the sinks.
func (v *vm) upload(c *collection) {
	if c.summary != nil {
		v.engine.agent.metrics.judge(v, diagnosis.Of([]*summary.Summary{c.summary}, v.rules))
	}
	for _, kind := range []string{upload.KindCPU, upload.KindDistribution, upload.KindConnections} {
		p, err := c.profile(kind)
		if err == nil && p != nil {
			err = v.send(kind, c, p)
		}
		if err != nil {
			v.engine.agent.metrics.failures.WithLabelValues(v.nodeLabel(), kind).Inc()
			v.engine.agent.options.Log.Warn().Err(err).Msgf("the %s profile of %s was not put into all queues", kind, v.name())
		}
	}
	if c.err != nil {
		v.engine.agent.options.Log.Warn().Err(c.err).Msgf("a window of %s is missing", v.name())
	}
}

func (v *vm) send(kind string, c *collection, p *profile.Profile) error {
	data, err := encode(p)
	if err != nil {
		return err
	}
	v.engine.agent.metrics.profiles.WithLabelValues(v.nodeLabel(), kind).Inc()
	return v.engine.agent.pipeline.Add(upload.Profile{
		Kind: kind, Labels: v.labels(), Start: c.stats.Start, End: c.stats.Start.Add(c.stats.Duration), Data: data,
	})
}

// nodeLabel is the value of the metrics' label node.
func (v *vm) nodeLabel() string { return text.Clean(v.info.Node) }
