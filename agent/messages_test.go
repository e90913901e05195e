package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// talkRules know one process that sends; what the connection does is told by
// messages alone.
const talkRules = `
name: talk
about: a process that sends to another node
detect: {modules: [talk]}
workloads: {talk: what the talker sends, housekeeping: the rest, vm: the VM itself}
rules:
  - {when: {state: [busy_wait, scheduling, sleep_wake]}, then: vm}
  - {when: {process: talker}, then: talk}
  - {when: {process: none, port: "*"}, then: [owner, vm]}
  - {when: {process: none}, then: vm}
  - {when: {process: ["inet_tcp_dist:*", net_kernel]}, then: [apportion, housekeeping], over: [messages]}
  - {when: {process: "*"}, then: housekeeping}
`

// The time of the connection to another node goes to what is sent over it.
func TestMessagesSplitTheConnection(t *testing.T) {
	testsupport.RequireBPF(t)
	cluster := testsupport.NewCluster(t)
	testsupport.StartVM(t, testsupport.Options{Name: "agent_listener", Cluster: cluster})
	vm := testsupport.StartVM(t, testsupport.Options{Name: "agent_talker", Cluster: cluster, Flags: []string{"+S", "1", "+sbwt", "none"}, Eval: `
register(talker, spawn(fun() -> (fun Loop(N) ->
    [{nobody, 'agent_listener@localhost'} ! N || _ <- lists:seq(1, 100)], timer:sleep(1), Loop(N + 1) end)(0) end)), ok`})
	rules := filepath.Join(t.TempDir(), "talk.yaml")
	if err := os.WriteFile(rules, []byte(talkRules), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, "agent_talker.*", fmt.Sprintf("rules: %s\nbeside: {distribution: sampled, connections: off, logs: off}\n", rules))
	// The time of the connection in the profiles from one on, by workload.
	times := func(first int) map[string]int64 {
		times := map[string]int64{}
		for _, p := range r.profiles(t, vm.Node, "cpu")[first:] {
			for _, s := range p.Sample {
				if s.HasLabel("peer", "agent_listener@localhost") && !s.HasLabel("process", "talker") {
					times[s.Label["workload"][0]+" by "+s.Label["basis"][0]] += s.Value[1]
				}
			}
		}
		return times
	}
	eventually(t, "a profile that is split", func() bool { return times(0)["talk by apportioned"] > 0 })
	first := len(r.profiles(t, vm.Node, "cpu"))
	eventually(t, "three more", func() bool { return len(r.profiles(t, vm.Node, "cpu")) >= first+3 })
	r.stop()
	got := times(first)
	t.Log(got)
	if split := got["talk by apportioned"]; split == 0 || got["housekeeping by process"] > 0 || split < 9*got["housekeeping by apportioned"] {
		t.Errorf("time of the connection by workload: %v ns", got)
	}
}
