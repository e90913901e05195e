package connections

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/testbed"
)

// facts are counts of connections to one node.
type facts struct{ opened, connects, connacks, byClient, byServer int }

// generated reads what the load generator noted of its connections to a node.
func generated(t *testing.T, file, node string) (f facts) {
	t.Helper()
	content, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	lines, err := csv.NewReader(content).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines { // id, node, port, CONNECT sent, CONNACK came, closed by
		if l[1] != node || l[5] == "failed" {
			continue
		}
		f.opened++
		f.connects += count(l[3] == "true")
		f.connacks += count(l[4] == "true")
		f.byClient += count(l[5] == "client")
		f.byServer += count(l[5] == "server")
	}
	return f
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}

// What is counted at the nodes is what the load generator did.
func TestTestbed(t *testing.T) {
	testsupport.RequireBPF(t)
	testsupport.RequireErlang(t)
	testsupport.RequireCommand(t, "cc", "gcc")
	testsupport.RequireCommand(t, "openssl", "openssl")
	t.Setenv("BEAMPROF_ERL", testsupport.Erl())
	cluster, err := testbed.Start(t.Context(), testbed.Options{TLS: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, s := range []testbed.Scenario{
		{Name: "connects", Rates: map[string]int{"connects": 100}},
		{Name: "connects", Rates: map[string]int{"connects": 50}, TLS: true},
		{Name: "sockets", Rates: map[string]int{"sockets": 500}},
		{Name: "churn", Rates: map[string]int{"churn": 100}},
	} {
		name := s.Name
		if s.TLS {
			name += " with TLS"
		}
		t.Run(name, func(t *testing.T) {
			s.Seconds, s.Connections = 2, filepath.Join(t.TempDir(), "connections.csv")
			var watching [2]*watched
			for i, node := range cluster.Nodes {
				watching[i] = watch(t, node.PID)
			}
			if _, err := cluster.Run(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			for i, node := range cluster.Nodes {
				port := node.MQTTPort
				if s.TLS {
					port = node.MQTTSPort
				}
				total := watching[i].total(uint16(port))
				want := generated(t, s.Connections, node.Name)
				got := facts{opened: int(total.Opened)}
				for _, c := range watching[i].closedConnections() {
					if int(c.Listener.Address.Port()) != port {
						continue
					}
					got.connects += count(c.Connect != nil)
					got.connacks += count(c.Connect != nil && c.Connect.Connack)
					got.byClient += count(c.By == ClosedByPeer)
					got.byServer += count(c.By == ClosedByTarget)
					if s.TLS && c.Protocol != ProtocolTLS {
						t.Errorf("%s on the listener with TLS", c.Protocol)
					}
				}
				if s.TLS { // what it carries is opaque
					want.connects, want.connacks = 0, 0
				}
				t.Logf("%s: %+v, generated %+v", node.Name, got, want)
				if want.opened < 10 || got.opened != want.opened || got.connects != want.connects || int(total.Closed) != want.opened {
					t.Errorf("%s: %+v, %d closed, want %+v", node.Name, got, total.Closed, want)
				}
				// In a storm a CONNACK, or the server's end, may come as the client
				// closes. After a DISCONNECT either may be the first to close.
				slack := 0
				switch s.Name {
				case "churn":
					slack = want.opened / 20
				case "connects":
					got.byClient, got.byServer = want.byClient, want.byServer
				}
				if off(got.connacks, want.connacks) > slack || off(got.byClient, want.byClient) > slack || off(got.byServer, want.byServer) > slack {
					t.Errorf("%s: %+v, want %+v", node.Name, got, want)
				}
			}
		})
	}
}

func off(a, b int) int { return max(a-b, b-a) }
