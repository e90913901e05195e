package agent

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// metrics are what the agent counts for Prometheus. Labels take few values: node
// names, workloads, states; nothing that is named by a process or a client.
type metrics struct {
	registry *prometheus.Registry
	byNode   []*prometheus.MetricVec // all that have the label node

	workloads, states                            *prometheus.CounterVec
	process, samples, lost, truncated, partially *prometheus.CounterVec
	windows, profiles, failures                  *prometheus.CounterVec
	bytes, messages, opened, closed, signals     *prometheus.CounterVec
	missed                                       *prometheus.CounterVec
	verdicts                                     *prometheus.GaugeVec

	reloads *prometheus.CounterVec

	mutex sync.Mutex
	gone  map[string]time.Time // nodes whose VM ended, and when
}

// forgetAfter is how long the counts of a VM that ended stay.
const forgetAfter = 10 * time.Minute

func newMetrics(a *Agent) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), gone: map[string]time.Time{}}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "beamprof", Name: name, Help: help}, append([]string{"node"}, labels...))
		m.registry.MustRegister(c)
		m.byNode = append(m.byNode, c.MetricVec)
		return c
	}
	m.workloads = counter("cpu_seconds_total", "CPU time sampled, by what it was spent for.", "workload")
	m.states = counter("state_cpu_seconds_total", "CPU time sampled, by what the VM did.", "state")
	m.process = counter("process_cpu_seconds_total", "CPU time of the VM as the kernel counts it, over the same windows.")
	m.samples = counter("samples_total", "Samples taken.")
	m.lost = counter("samples_lost_total", "Samples that did not arrive.")
	m.truncated = counter("samples_truncated_total", "Samples of stacks too deep to be copied whole.")
	m.partially = counter("samples_partial_total", "Samples whose unwinding ended early.")
	m.windows = counter("windows_total", "Windows sampled.")
	m.profiles = counter("profiles_total", "Profiles made for the sinks.", "kind")
	m.failures = counter("profiles_failed_total", "Profiles that could not be made, or not be put into all queues.", "kind")
	m.bytes = counter("distribution_bytes_total", "Bytes of the traffic with other nodes.", "peer", "direction")
	m.messages = counter("distribution_messages_total", "Messages of the traffic with other nodes; only if they are looked at.", "peer", "direction")
	m.opened = counter("connections_opened_total", "Connections to the VM's listeners that were opened.", "listener")
	m.closed = counter("connections_closed_total", "Connections to the VM's listeners that were closed.", "listener", "by")
	m.signals = counter("log_signals_total", "Lines of the VM's logs that tell of trouble, by what they tell.", "signal")
	m.missed = counter("missed_total", "What was looked at beside samples and missed, by what.", "what")
	m.verdicts = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "beamprof", Name: "verdict", Help: "The diagnosis of the last profile: 1 for the verdict on each cause.",
	}, []string{"node", "cause", "verdict"})
	m.byNode = append(m.byNode, m.verdicts.MetricVec)
	m.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "beamprof", Name: "config_reloads_total", Help: "Times the configuration was read again.",
	}, []string{"result"})
	m.registry.MustRegister(
		m.reloads, m.verdicts,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), // the agent's own cost
		&ownMetrics{a},
	)
	return m
}

// window counts a window.
func (m *metrics) window(v *vm, s *summary.Summary, stats sampler.Stats) {
	node := v.nodeLabel()
	m.mutex.Lock()
	delete(m.gone, node)
	m.mutex.Unlock()
	for _, w := range s.Workloads {
		m.workloads.WithLabelValues(node, w.Name).Add(w.Seconds)
	}
	for _, part := range s.States {
		m.states.WithLabelValues(node, part.Name).Add(part.Seconds)
	}
	m.process.WithLabelValues(node).Add(max(stats.ProcessSeconds, 0))
	m.samples.WithLabelValues(node).Add(float64(stats.Samples))
	m.lost.WithLabelValues(node).Add(float64(stats.Lost + stats.Malformed))
	m.truncated.WithLabelValues(node).Add(float64(stats.Truncated))
	m.partially.WithLabelValues(node).Add(float64(stats.Partial))
	m.windows.WithLabelValues(node).Inc()
}

// beside counts what was looked at beside the samples of a window.
func (m *metrics) beside(v *vm, s *summary.Summary, window counts) {
	node := v.nodeLabel()
	if s.Distribution != nil {
		for _, p := range s.Distribution.Peers {
			peer := text.Clean(p.Node)
			m.bytes.WithLabelValues(node, peer, "sent").Add(float64(p.SentBytes))
			m.bytes.WithLabelValues(node, peer, "received").Add(float64(p.ReceivedBytes))
			if s.Distribution.Detail != "totals" {
				m.messages.WithLabelValues(node, peer, "sent").Add(float64(p.SentMessages))
				m.messages.WithLabelValues(node, peer, "received").Add(float64(p.ReceivedMessages))
			}
		}
	}
	for address, t := range window.listeners {
		m.opened.WithLabelValues(node, address.String()).Add(float64(t.Opened))
		m.closed.WithLabelValues(node, address.String(), "peer").Add(float64(t.ClosedByPeer))
		m.closed.WithLabelValues(node, address.String(), "target").Add(float64(t.ClosedByTarget))
		m.closed.WithLabelValues(node, address.String(), "unknown").Add(float64(t.Closed - min(t.ClosedByPeer+t.ClosedByTarget, t.Closed)))
	}
	for signal, count := range window.signals {
		m.signals.WithLabelValues(node, signal).Add(float64(count.InWindow))
	}
	for what, n := range window.lost {
		m.missed.WithLabelValues(node, what).Add(float64(n))
	}
}

// judge shows the verdicts on a profile.
func (m *metrics) judge(v *vm, all []summary.Diagnosis) {
	for _, d := range all {
		for _, verdict := range []string{summary.VerdictLikely, summary.VerdictPossible, summary.VerdictUnlikely, summary.VerdictUnknown} {
			value := 0.0
			if d.Verdict == verdict {
				value = 1
			}
			m.verdicts.WithLabelValues(v.nodeLabel(), d.Cause, verdict).Set(value)
		}
	}
}

// ended notes that a VM ended: its last counts are to be scraped once more.
func (m *metrics) ended(v *vm) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	m.gone[v.nodeLabel()] = time.Now()
}

// forget drops the counts of VMs that ended a while ago.
func (m *metrics) forget(now time.Time) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for node, since := range m.gone {
		if now.Sub(since) < forgetAfter {
			continue
		}
		delete(m.gone, node)
		for _, vec := range m.byNode {
			vec.DeletePartialMatch(prometheus.Labels{"node": node})
		}
	}
}

// ownMetrics are what is asked for at each scrape: targets and sinks.
type ownMetrics struct{ agent *Agent }

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("beamprof_"+name, help, labels, nil)
}

var (
	build         = description("build_info", "The agent's version.", "version")
	targets       = description("targets", "VMs being profiled.")
	refusedVMs    = description("targets_refused", "VMs that are not profiled, by why.", "reason")
	sinkSent      = description("sink_sent_total", "Profiles that a sink took.", "sink", "type")
	sinkRetries   = description("sink_retries_total", "Attempts to send a profile after the first.", "sink", "type")
	sinkFailures  = description("sink_failures_total", "Attempts that failed, by why.", "sink", "type", "reason")
	sinkDropped   = description("sink_dropped_total", "Profiles given up, by why.", "sink", "type", "reason")
	sinkReduced   = description("sink_reduced_samples_total", "Samples made coarser to stay within what servers accept.", "sink", "type")
	sinkQueued    = description("sink_queue_profiles", "Profiles in the queue.", "sink", "type")
	sinkBytes     = description("sink_queue_bytes", "Bytes in the queue.", "sink", "type")
	sinkOldest    = description("sink_queue_oldest_seconds", "Age of the oldest profile in the queue.", "sink", "type")
	sinkSucceeded = description("sink_last_success_timestamp_seconds", "When a sink last took a profile; 0 if never.", "sink", "type")
)

// Describe sends nothing: what there is depends on the configuration.
func (o *ownMetrics) Describe(chan<- *prometheus.Desc) {}

func (o *ownMetrics) Collect(to chan<- prometheus.Metric) {
	o.agent.metrics.forget(time.Now())
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value uint64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(build, 1, o.agent.options.Version)
	profiled, refused := o.agent.current().counts()
	gauge(targets, float64(profiled))
	for reason, n := range refused {
		gauge(refusedVMs, float64(n), reason)
	}
	for _, s := range o.agent.pipeline.Stats() {
		counter(sinkSent, s.Sent, s.Name, s.Type)
		counter(sinkRetries, s.Retries, s.Name, s.Type)
		for reason, n := range s.Failures {
			counter(sinkFailures, n, s.Name, s.Type, reason)
		}
		for reason, n := range s.Dropped {
			counter(sinkDropped, n, s.Name, s.Type, reason)
		}
		counter(sinkReduced, s.Folded+s.Cut, s.Name, s.Type)
		gauge(sinkQueued, float64(s.QueuedProfiles), s.Name, s.Type)
		gauge(sinkBytes, float64(s.QueuedBytes), s.Name, s.Type)
		age, success := 0.0, 0.0
		if !s.OldestQueued.IsZero() {
			age = max(time.Since(s.OldestQueued).Seconds(), 0)
		}
		if !s.LastSuccess.IsZero() {
			success = float64(s.LastSuccess.UnixNano()) / 1e9
		}
		gauge(sinkOldest, age, s.Name, s.Type)
		gauge(sinkSucceeded, success, s.Name, s.Type)
	}
}

// counts returns how many VMs are profiled, and how many are not, by why.
func (e *engine) counts() (profiled int, refused map[string]int) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	refused = map[string]int{"starting": 0, "unsupported": 0, "permission": 0, "failed": 0}
	for _, r := range e.refused {
		if r.reason != "" {
			refused[r.reason]++
		}
	}
	return len(e.vms), refused
}
