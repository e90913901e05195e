package diagnosis

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// node makes a summary of 30 s in which a node used so many cores, busy waiting
// for a part of it, and working on workloads by these parts of the rest.
func node(cores, spinning float64, workloads map[string]float64) *summary.Summary {
	const seconds = 30
	all := cores * seconds
	s := &summary.Summary{
		Target: summary.Target{Node: "a@h"},
		Window: summary.Window{Duration: seconds, Frequency: 99},
		CPU:    summary.CPU{SampledSeconds: all, ProcessSeconds: all, Samples: uint64(all * 99)},
		States: []summary.Part{{Name: "busy_wait", Seconds: spinning * all, Share: spinning}},
	}
	for _, name := range []string{"ae_exchange", "client_churn", "message_routing"} {
		if part, ok := workloads[name]; ok {
			share := part * (1 - spinning)
			s.Workloads = append(s.Workloads, summary.Workload{Name: name, Seconds: share * all, Share: share, WithoutVM: part})
		}
	}
	return s
}

func with(s *summary.Summary, change ...func(*summary.Summary)) *summary.Summary {
	for _, c := range change {
		c(s)
	}
	return s
}

// logs adds signals and how often they were written in the window.
func logs(counts map[string]uint64) func(*summary.Summary) {
	return func(s *summary.Summary) {
		s.Logs = []summary.Log{}
		for signal, count := range counts {
			of := map[string]string{"empty_sync": "ae_exchange"}[signal]
			s.Logs = append(s.Logs, summary.Log{Signal: signal, Of: of, Count: count, InWindow: count, First: time.Unix(0, 0)})
		}
	}
}

// connections adds a listener, and what was seen of plain MQTT there.
func connections(perSecond float64, mqtt *summary.MQTT) func(*summary.Summary) {
	return func(s *summary.Summary) {
		s.Connections = &summary.Connections{MQTT: mqtt, Listeners: []summary.Listener{
			{Address: "0.0.0.0:1883", Opened: uint64(perSecond * 30), OpenedPerSecond: perSecond, PeakPerSecond: perSecond},
		}}
	}
}

// sbwt sets the flag +sbwt.
func sbwt(value string) func(*summary.Summary) {
	return func(s *summary.Summary) { s.Target.BusyWait = value }
}

// earlier adds a signal's lines of the four and a half minutes before a window, and
// of the window.
func earlier(before, inWindow uint64) func(*summary.Summary) {
	return func(s *summary.Summary) {
		s.Window.Start = time.Unix(1000, 0)
		s.Logs = []summary.Log{{Signal: "unknown_sync_event", Count: before + inWindow, InWindow: inWindow, First: time.Unix(730, 0)}}
	}
}

// ofNodes adds a listener that other nodes connect to.
func ofNodes(perSecond float64) func(*summary.Summary) {
	return func(s *summary.Summary) {
		for port, protocol := range map[string]string{"9100": summary.ProtocolDistribution, "44053": summary.ProtocolVerneMQ} {
			s.Connections.Listeners = append(s.Connections.Listeners, summary.Listener{
				Address: "0.0.0.0:" + port, Protocol: protocol, Opened: uint64(perSecond * 30), OpenedPerSecond: perSecond, PeakPerSecond: perSecond,
			})
		}
	}
}

var (
	churning  = map[string]float64{"client_churn": 0.7, "ae_exchange": 0.01}
	exchanges = map[string]float64{"client_churn": 0.01, "ae_exchange": 0.95}
	both      = map[string]float64{"client_churn": 0.3, "ae_exchange": 0.6}
	// Half of what is not spinning is the VM's, too.
	housekeeping = map[string]float64{"ae_exchange": 0.3, "client_churn": 0.2}
	routing      = map[string]float64{"message_routing": 0.95, "client_churn": 0.02, "ae_exchange": 0.02}

	stormy = &summary.MQTT{Connects: 3000, Connacks: 1500, WithoutConnack: 1500, Clients: 100, Repeated: 100, TakenOver: 900}
	calm   = &summary.MQTT{Connects: 3000, Connacks: 2990, WithoutConnack: 10, Clients: 2900, Repeated: 90, TakenOver: 3}
	quiet  = logs(map[string]uint64{})
	spam   = logs(map[string]uint64{"unknown_sync_event": 500, "drain_failed": 40})
	empty  = logs(map[string]uint64{"ae_exchange": 130, "empty_sync": 120})
)

const (
	storming = attribution.ConnectionStorm
	stale    = attribution.InconsistentState
	spinning = attribution.BusyWait
	noneOf   = attribution.NoneOfThese
)

// TestVerdicts: what each combination of evidence leads to. Causes that are not
// listed are unlikely.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes []*summary.Summary
		want  map[string]string
	}{
		{"storm, all evidence", []*summary.Summary{with(node(1, 0.3, churning), spam, connections(100, stormy))}, map[string]string{storming: "likely"}},
		{"storm, no connections", []*summary.Summary{with(node(1, 0.3, churning), spam)}, map[string]string{storming: "likely"}},
		{"storm, no log", []*summary.Summary{with(node(1, 0.3, churning), connections(100, stormy))}, map[string]string{storming: "likely"}},
		{"storm over TLS", []*summary.Summary{with(node(1, 0.3, churning), spam, connections(100, nil))}, map[string]string{storming: "likely"}},
		{"storm over TLS, no log", []*summary.Summary{with(node(1, 0.3, churning), connections(100, nil))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"storm over TLS, starved", []*summary.Summary{with(node(1, 0, churning), earlier(200, 1), connections(100, nil))}, map[string]string{storming: "likely"}},
		{"storm over TLS, over", []*summary.Summary{with(node(1, 0, churning), earlier(200, 0), connections(100, nil))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"connects over TLS, few lines", []*summary.Summary{with(node(1, 0, churning), earlier(20, 1), connections(100, nil))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"storm, but another load", []*summary.Summary{with(node(1, 0.3, routing), spam, connections(100, stormy))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"CPU only", []*summary.Summary{node(1, 0.3, churning)}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"well-behaved connects", []*summary.Summary{with(node(1, 0.3, churning), quiet, connections(100, calm))}, map[string]string{noneOf: "likely"}},
		{"well-behaved in plain, storm over TLS", []*summary.Summary{with(node(1, 0.3, churning), quiet, connections(1000, calm))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"clients do the work, other nodes connect", []*summary.Summary{with(node(1, 0.3, churning), spam, connections(1, nil), ofNodes(200))}, map[string]string{storming: "possible", noneOf: "possible"}},
		{"clients behave, other nodes connect", []*summary.Summary{with(node(1, 0.3, churning), quiet, connections(100, calm), ofNodes(400))}, map[string]string{noneOf: "likely"}},
		{"empty sync", []*summary.Summary{with(node(1, 0.1, exchanges), empty, connections(1, nil))}, map[string]string{stale: "likely"}},
		{"empty sync, served", []*summary.Summary{with(node(1, 0.1, exchanges), quiet)}, map[string]string{stale: "possible", noneOf: "possible"}},
		{"empty sync, no log", []*summary.Summary{node(1, 0.1, exchanges)}, map[string]string{stale: "possible", noneOf: "possible"}},
		{"empty sync that costs nothing", []*summary.Summary{with(node(1, 0.1, routing), empty)}, map[string]string{stale: "possible", noneOf: "possible"}},
		{"storm that exchanges come of", []*summary.Summary{with(node(1, 0.3, churning), logs(map[string]uint64{"ae_exchange": 30, "empty_sync": 5, "unknown_sync_event": 100}))},
			map[string]string{storming: "likely"}},
		{"both", []*summary.Summary{with(node(1, 0.3, both), logs(map[string]uint64{"empty_sync": 100, "unknown_sync_event": 100}), connections(60, stormy))},
			map[string]string{storming: "likely", stale: "likely"}},
		{"heavy healthy publishing", []*summary.Summary{with(node(2, 0.2, routing), quiet, connections(0.1, nil))}, map[string]string{noneOf: "likely"}},
		{"idle, spinning", []*summary.Summary{with(node(0.4, 0.9, map[string]float64{"ae_exchange": 0.6}), quiet, connections(0, nil))}, map[string]string{spinning: "likely"}},
		{"idle, spinning for the largest part", []*summary.Summary{with(node(0.01, 0.3, exchanges), quiet, connections(0, nil))}, map[string]string{noneOf: "likely", spinning: "possible"}},
		{"idle, hardly spinning", []*summary.Summary{with(node(0.01, 0.1, exchanges), quiet, connections(0, nil))}, map[string]string{noneOf: "likely"}},
		{"idle, as usual", []*summary.Summary{with(node(0.02, 0.6, exchanges), quiet, connections(0, nil), sbwt("medium"))}, map[string]string{noneOf: "likely", spinning: "possible"}},
		{"idle, spins for long, most of a little", []*summary.Summary{with(node(0.01, 0.45, exchanges), quiet, connections(0, nil), sbwt("very_long"))}, map[string]string{spinning: "likely"}},
		{"idle, spins for long, few samples", []*summary.Summary{with(node(0.008, 0.1, exchanges), quiet, connections(0, nil), sbwt("very_long"))}, map[string]string{spinning: "likely"}},
		{"idle, spins for long, hardly any samples", []*summary.Summary{with(node(0.001, 0, exchanges), quiet, connections(0, nil), sbwt("long"))}, map[string]string{spinning: "likely"}},
		{"idle, told to spin for long, but does not", []*summary.Summary{with(node(0.04, 0.02, routing), quiet, connections(0, nil), sbwt("very_long"))}, map[string]string{noneOf: "likely"}},
		{"spins for longer than it works", []*summary.Summary{with(node(0.1, 0.45, housekeeping), quiet, connections(0, nil), sbwt("long"))}, map[string]string{spinning: "likely"}},
		{"works for longer than it spins", []*summary.Summary{with(node(1, 0.3, routing), quiet, connections(0, nil), sbwt("very_long"))}, map[string]string{noneOf: "likely"}},
		{"idle, no samples", []*summary.Summary{with(node(0.001, 0.5, exchanges), quiet, connections(0, nil))}, map[string]string{noneOf: "likely"}},
		{"spinning for as much as under load", []*summary.Summary{with(node(1, 0.45, routing), quiet, connections(0, nil))}, map[string]string{spinning: "possible", noneOf: "likely"}},
		{"spinning as usual under load", []*summary.Summary{with(node(1, 0.45, routing), quiet, connections(0, nil), sbwt("medium"))}, map[string]string{noneOf: "likely"}},
		{"spinning for longer than usual beside work", []*summary.Summary{with(node(1, 0.45, routing), quiet, connections(0, nil), sbwt("long"))}, map[string]string{spinning: "possible", noneOf: "likely"}},
		{"storm, spinning", []*summary.Summary{with(node(1, 0.6, churning), spam)}, map[string]string{storming: "likely", spinning: "possible"}},
		{"hardly any samples", []*summary.Summary{with(node(1, 0.3, churning), func(s *summary.Summary) { s.CPU.Samples = 7 })},
			map[string]string{storming: "unknown", stale: "unknown", spinning: "unknown", noneOf: "unknown"}},
		{"nothing", []*summary.Summary{{}}, map[string]string{storming: "unknown", stale: "unknown", spinning: "unknown", noneOf: "unknown"}},
		{"two nodes in a storm, some exchanges repeat by chance", []*summary.Summary{
			with(node(1, 0.1, churning), spam, logs(map[string]uint64{"ae_exchange": 3, "empty_sync": 1, "unknown_sync_event": 100})),
			with(node(1, 0.1, churning), spam, logs(map[string]uint64{"ae_exchange": 3, "empty_sync": 2, "unknown_sync_event": 100})),
		}, map[string]string{storming: "likely"}},
		{"two nodes, one fetches from the other", []*summary.Summary{with(node(1, 0.1, exchanges), quiet), with(node(1, 0.1, exchanges), empty)}, map[string]string{stale: "likely"}},
	} {
		rules, _ := attribution.Builtin("vernemq")
		found := Of(c.nodes, rules)
		if len(found) != 4 || !slices.IsSortedFunc(found, func(a, b summary.Diagnosis) int { return rank(a.Verdict) - rank(b.Verdict) }) {
			t.Errorf("%s: %+v", c.name, found)
		}
		for _, d := range found {
			want := c.want[d.Cause]
			if want == "" {
				want = "unlikely"
			}
			if d.Verdict != want {
				t.Errorf("%s: %s is %s, not %s: %q", c.name, d.Cause, d.Verdict, want, d.Evidence)
			}
			advised := want == "likely" || want == "possible"
			if d.Cause != noneOf && (len(d.Advice) > 0) != advised || d.Evidence == nil {
				t.Errorf("%s: %+v", c.name, d)
			}
			if (want == "unknown" || want == "possible" && len(c.want) == 1) && len(d.Surer) == 0 && d.Cause != noneOf {
				t.Errorf("%s: %s is %s, and nothing would make it surer", c.name, d.Cause, want)
			}
		}
	}
}

// TestOtherSystems: a diagnosis makes sense where less is known.
func TestOtherSystems(t *testing.T) {
	for _, c := range []struct {
		rules string
		node  *summary.Summary
		want  string
	}{
		{"rabbitmq", with(node(1, 0.3, routing), connections(0, nil)), "none_of_these likely"},
		{"rabbitmq", with(node(1, 0.3, churning), connections(100, nil)), "client_connection_storm possible"},
		{"ejabberd", with(node(1, 0.8, routing), connections(0, nil)), "vm_busy_wait likely"},
		{"otp", with(node(1, 0.3, routing), connections(1, nil)), "none_of_these likely"},
		{"otp", with(node(1, 0.3, routing), connections(100, nil)), "client_connection_storm possible"},
		{"otp", with(node(1, 0.3, routing), connections(100, stormy)), "client_connection_storm possible"},
		{"otp", node(1, 0.3, routing), "client_connection_storm unknown"},
	} {
		rules, _ := attribution.Builtin(c.rules)
		if d := Of([]*summary.Summary{c.node}, rules)[0]; d.Cause+" "+d.Verdict != c.want {
			t.Errorf("%s: %+v, not %s", c.rules, d, c.want)
		}
	}
	// Rules of the user's that say nothing of causes.
	if d := Of([]*summary.Summary{node(1, 0.9, routing)}, &attribution.Rules{}); d[0].Cause != spinning || d[0].Verdict != "likely" {
		t.Errorf("%+v", d)
	}
}

// TestHoppingClients: ids on several nodes are told from the joined evidence.
func TestHoppingClients(t *testing.T) {
	client := func(s *summary.Summary) { s.Connections.Clients = []summary.Client{{ID: "x", Connects: 9, Nodes: 1}} }
	a, b := with(node(1, 0.3, churning), connections(100, stormy), client), with(node(1, 0.3, churning), connections(100, stormy), client)
	b.Target.Node = "b@h"
	rules, _ := attribution.Builtin("vernemq")
	d := Of([]*summary.Summary{a, b}, rules)[0]
	text := strings.Join(d.Evidence, "\n")
	for _, want := range []string{"1 of the busiest client ids connected to more than one node", "a@h: ", "b@h: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}
