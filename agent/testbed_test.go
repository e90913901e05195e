package agent

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/testbed"
)

// lines counts the lines of a node's logs that hold a text, in the file that has
// most of them.
func lines(t *testing.T, node testbed.Node, text string) (most int) {
	t.Helper()
	for _, path := range node.Logs {
		content, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		most = max(most, strings.Count(string(content), text))
	}
	return most
}

// opened reads how many connections the load generator opened to a node.
func opened(t *testing.T, file, node string) (n float64) {
	t.Helper()
	content, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	all, err := csv.NewReader(content).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range all { // id, node, port, CONNECT sent, CONNACK came, closed by
		if line[1] == node && line[5] != "failed" {
			n++
		}
	}
	return n
}

// TestBesideTheTestbed: an agent beside two nodes of a cluster under a storm and
// an exchange that does not converge. What it shows of their connections,
// traffic and logs is what the load generator and the nodes know; and what a
// real Prometheus makes of it fires the alert and fills the dashboard.
func TestBesideTheTestbed(t *testing.T) {
	testsupport.RequireBPF(t)
	testsupport.RequireErlang(t)
	testsupport.RequireCommand(t, "cc", "gcc")
	t.Setenv("BEAMPROF_ERL", testsupport.Erl())
	cluster, err := testbed.Start(t.Context(), testbed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	r := start(t, "VerneMQ[12]@127.0.0.1", "beside: {distribution: full, connections: full}\n")
	eventually(t, "both nodes", func() bool {
		return r.metric(t, "beamprof_targets") == 2 && r.metric(t, fmt.Sprintf(`beamprof_windows_total{node="%s"}`, cluster.Nodes[0].Name)) > 1 &&
			r.metric(t, fmt.Sprintf(`beamprof_windows_total{node="%s"}`, cluster.Nodes[1].Name)) > 1
	})
	const event = "got unknown sync event"
	var before [2]int
	for i, node := range cluster.Nodes {
		before[i] = lines(t, node, event)
	}
	server := startPrometheus(t, r)

	load := testbed.Scenario{Name: "mixed1", Seconds: 16, Connections: filepath.Join(t.TempDir(), "connections.csv")}
	load.Observe = func(context.Context) error {
		t.Run("scrapes", func(t *testing.T) { scrapeTestbed(t, r, cluster) })
		if server != nil {
			t.Run("alert and dashboard", func(t *testing.T) { watch(t, server, r) })
		}
		return nil
	}
	if _, err := cluster.Run(t.Context(), load); err != nil {
		t.Fatal(err)
	}
	for i, node := range cluster.Nodes {
		want := opened(t, load.Connections, node.Name)
		listener := fmt.Sprintf(`{listener="127.0.0.1:%d",node="%s"}`, node.MQTTPort, node.Name)
		// A window later.
		windows := fmt.Sprintf(`beamprof_windows_total{node="%s"}`, node.Name)
		now := r.metric(t, windows)
		eventually(t, "the next windows", func() bool { return r.metric(t, windows) > now+2 })
		if got := r.metric(t, "beamprof_connections_opened_total"+listener); got != want || want < 50 {
			t.Errorf("%s: %g connections were opened, the clients say %g", node.Name, got, want)
		}
		said := float64(lines(t, node, event) - before[i])
		if got := r.metric(t, fmt.Sprintf(`beamprof_log_signals_total{node="%s",signal="unknown_sync_event"}`, node.Name)); got != said || said == 0 {
			t.Errorf("%s: %g unknown sync events, the log has %g", node.Name, got, said)
		}
		peer := cluster.Nodes[1-i].Name
		sent := r.metric(t, fmt.Sprintf(`beamprof_distribution_bytes_total{direction="sent",node="%s",peer="%s"}`, node.Name, peer))
		received := r.metric(t, fmt.Sprintf(`beamprof_distribution_bytes_total{direction="received",node="%s",peer="%s"}`, peer, node.Name))
		if sent < 10_000 || received < 0.97*sent || received > 1.03*sent {
			t.Errorf("%s sent %g bytes to %s, which received %g", node.Name, sent, peer, received)
		}
		for _, what := range []string{"connections", "messages"} {
			if lost := r.metric(t, fmt.Sprintf(`beamprof_missed_total{node="%s",what="%s"}`, node.Name, what)); lost > 0 {
				t.Errorf("%s: %g %s are missing", node.Name, lost, what)
			}
		}
	}
	_, body := r.get(t, "/metrics")
	if strings.Contains(body, "client=") || strings.Contains(body, "<0.") {
		t.Error("metrics tell clients or processes")
	}
	promtool(t, body, "check", "metrics")
	r.stop()
	for _, node := range cluster.Nodes {
		var inFiles int64
		for _, p := range r.profiles(t, node.Name, "connections") {
			for _, s := range p.Sample {
				if strings.HasSuffix(s.Location[len(s.Location)-1].Line[0].Function.Name, fmt.Sprint(":", node.MQTTPort)) {
					inFiles += s.Value[0]
				}
			}
		}
		if want := opened(t, load.Connections, node.Name); float64(inFiles) != want {
			t.Errorf("%s: %d connections are in the profiles, the clients say %g", node.Name, inFiles, want)
		}
	}
}

// scrapeTestbed pulls profiles while the load is on.
func scrapeTestbed(t *testing.T, r *running, cluster *testbed.Cluster) {
	node, peer := cluster.Nodes[1].Name, cluster.Nodes[0].Name
	connections, messages := r.take(t, "/debug/pprof/connections?seconds=3"), r.take(t, "/debug/pprof/distribution?seconds=3&node="+node)
	if p := connections.profile(t); p == nil {
		t.Errorf("status %d: %s", connections.code, connections.body)
	} else if sum(p, "protocol", "mqtt") < 60 || sum(p, "node", node) < 20 || sum(p, "node", peer) < 20 || sum(p, "connack", "none") < 10 {
		t.Errorf("%d of MQTT, %d and %d of the nodes, %d without an answer", sum(p, "protocol", "mqtt"), sum(p, "node", node), sum(p, "node", peer), sum(p, "connack", "none"))
	}
	p := messages.profile(t)
	if p == nil {
		t.Fatalf("status %d: %s", messages.code, messages.body)
	}
	if all := sum(p, "", ""); all < 100 || sum(p, "peer", peer) != all || sum(p, "workload", "ae_exchange") < 20 || sum(p, "workload", "client_churn") == 0 {
		t.Errorf("%d messages, %d with %s, %d of the exchange, %d of churn", all, sum(p, "peer", peer), peer, sum(p, "workload", "ae_exchange"), sum(p, "workload", "client_churn"))
	}
	if len(p.Sample[0].Label["node"]) > 0 {
		t.Error("the profile of one VM tells its node in each sample")
	}
}

// watch waits for the alert of the storm, and for data in each panel.
func watch(t *testing.T, server *scraper, r *running) {
	eventually(t, "the alert of a storm on both nodes", func() bool { return len(server.firing(t, "VerneMQConnectionStorm")) == 2 })
	if verdict := r.metric(t, `beamprof_verdict{cause="`+attribution.ConnectionStorm+`",node="VerneMQ1@127.0.0.1",verdict="likely"}`); verdict != 1 {
		t.Logf("the verdict has changed since")
	}
	for _, alert := range []string{"BeamprofSinkFails", "BeamprofProfilesDropped", "BeamprofTargetsRefused", "BeamprofSamplesLost"} {
		if on := server.firing(t, alert); len(on) > 0 {
			t.Errorf("%s fires", alert)
		}
	}
	var empty []string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Second) { // rates need a few scrapes
		empty = nil
		for _, panel := range readDashboard(t).Panels {
			for _, query := range panel.Targets {
				series, err := server.query(anyNode(query.Expr))
				if err != nil {
					t.Fatalf("%q: %v", panel.Title, err)
				}
				if len(series) == 0 {
					empty = append(empty, panel.Title)
				}
			}
		}
		if len(empty) == 0 || time.Now().After(end) {
			break
		}
	}
	if slices.Sort(empty); len(empty) > 0 {
		t.Errorf("no data in %q", slices.Compact(empty))
	}
}
