package sampler_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/internal/testsupport"
)

const peersSource = `
-module(peers).
-export([start/2, send/2, take/0, feed/1]).
%% One process takes what another node sends it, and tells that node when it has.
take() -> receive {more, From, _} -> From ! go, take() end.
feed(To) -> To ! {more, self(), [{N, N + 0.5, make_ref()} || N <- lists:seq(1, 5000)]}, receive go -> feed(To) end.
start(Name, Node) -> register(Name, spawn(?MODULE, send, [Node, binary:copy(<<1>>, 40)])).
send(Node, Payload) -> {nobody, Node} ! {message, Payload, lists:seq(1, 50)}, send(Node, Payload).
`

// TestPeers sends to two nodes at once, and gets messages of both. Work on
// messages says for which of them it is: encoding, the ports of the connections,
// and decoding, which is done by the process that takes a message.
func TestPeers(t *testing.T) {
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	options := testsupport.Options{Flags: []string{"+S", "1", "+sbwt", "none"}, Modules: map[string]string{"peers": peersSource}, Cluster: cluster}
	options.Name = "peers_a"
	vm := testsupport.StartVM(t, options)
	for _, name := range []string{"peers_b", "peers_c"} {
		options.Name = name
		other := testsupport.StartVM(t, options)
		vm.Eval(t, fmt.Sprintf("true = net_kernel:connect_node('%[1]s'), peers:start(to_%[2]s, '%[1]s'), register(of_%[2]s, spawn(peers, take, []))", other.Node, name))
		other.Eval(t, fmt.Sprintf("spawn(peers, feed, [{of_%s, '%s'}])", name, vm.Node))
	}
	samples, _ := profile(t, vm, 999, 3*time.Second)
	counts := map[string]int{}
	for _, s := range samples {
		traffic := ""
		for _, f := range s.stack {
			if strings.HasPrefix(f.Function, "erts_dsig_send") || strings.HasPrefix(f.Function, "erts_encode_dist") {
				traffic = "encoding"
			}
			if strings.HasPrefix(f.Function, "erts_decode_dist_ext") {
				traffic = "decoding"
			}
		}
		switch {
		case s.Port != nil && s.Port.Driver == "tcp_inet" && s.Process == nil:
			counts[fmt.Sprintf("port %t", s.Peer != "")]++
			counts["port "+s.Peer]++
		case s.Process != nil && s.Process.RegisteredName != "" && traffic != "":
			_, node, _ := strings.Cut(s.Process.RegisteredName, "_")
			right := s.Peer == node+"@localhost"
			counts[fmt.Sprintf("%s %t", traffic, right)]++
			if !right {
				t.Logf("%s is not %s: %s", s.Peer, s.Process.RegisteredName, strings.Join(s.names(), ";"))
			}
		case s.Peer != "" && s.Process != nil && strings.HasPrefix(s.Process.RegisteredName, "to_") && s.Port == nil:
			counts["not known why"]++
		}
	}
	t.Log(counts)
	for _, what := range []string{"encoding", "port", "decoding"} {
		right, wrong := counts[what+" true"], counts[what+" false"]
		if right < 50 || float64(right) < 0.98*float64(right+wrong) {
			t.Errorf("%s: %d samples say which node, %d do not or say another", what, right, wrong)
		}
	}
	if counts["port peers_b@localhost"] == 0 || counts["port peers_c@localhost"] == 0 || counts["not known why"] > 0 {
		t.Error("not the nodes that there are")
	}
}
