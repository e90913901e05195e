package distribution

import (
	"bytes"
	"maps"
	"math"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/profiles/attribution"
)

func frames(names ...string) (stack []*collector.Frame) {
	for _, name := range names {
		stack = append(stack, &collector.Frame{Kind: collector.FrameErlang, Function: name, Resolved: true})
	}
	return stack
}

func messages() []*distribution.Message {
	scheduler := &collector.Thread{Kind: collector.ThreadScheduler, Number: 1}
	exchange := &collector.Sample{
		Thread: scheduler, State: collector.StateBIF, Stack: frames("gen:do_call/4", "vmq_swc_exchange_fsm:remote_node_clock/3"),
		Process: &collector.Process{PID: "<0.9.0>", Name: "vmq_swc_exchange_fsm:init/1", Kind: "vmq_swc_exchange_fsm:init/1"},
	}
	call := func(at uint64) *distribution.Message {
		return &distribution.Message{
			Time: at, Node: "b@host", Bytes: 100, Weight: 1, Operation: "reg_send", Destination: "vmq_swc_edist_meta1",
			RequestType: "call", Request: "apply vmq_swc_store:rpc_node_clock", Sender: exchange,
		}
	}
	cast := &distribution.Message{
		Time: 5, Node: "b@host", Received: true, Bytes: 50, Weight: 10, Operation: "reg_send", Destination: "vmq_swc_edist_meta1",
		RequestType: "cast", Request: "apply vmq_swc_store:rpc_broadcast",
	}
	unlink := &distribution.Message{Time: 5, Node: "b@host", Bytes: 20, Weight: 1, Operation: "unlink_id", Destination: distribution.OtherProcess}
	return []*distribution.Message{call(3), call(4), cast, unlink}
}

func build(t *testing.T) (*Builder, *profile.Profile) {
	t.Helper()
	rules, ok := attribution.Builtin("vernemq")
	if !ok {
		t.Fatal("no rules")
	}
	b := NewBuilder(rules)
	for _, m := range messages() {
		b.Add(m)
	}
	b.Close()
	p, err := b.Profile(Info{Version: "test", Node: "a@host", PID: 1, Start: time.Unix(1, 0), Duration: time.Second,
		Totals: []distribution.Total{{Node: "b@host", SentBytes: 1}}, Stats: distribution.Stats{Every: 10}})
	if err != nil {
		t.Fatal(err)
	}
	return b, p
}

// The profile holds every message once, with its labels, and can be read back.
func TestProfile(t *testing.T) {
	_, built := build(t)
	var file bytes.Buffer
	if err := built.Write(&file); err != nil {
		t.Fatal(err)
	}
	p, err := profile.Parse(&file)
	if err != nil {
		t.Fatal(err)
	}
	var count, size int64
	for _, s := range p.Sample {
		count += s.Value[0]
		size += s.Value[1]
	}
	if count != 13 || size != 720 || p.DefaultSampleType != "bytes" {
		t.Errorf("%d messages of %d bytes, %s", count, size, p)
	}
	find := func(label, value string) *profile.Sample {
		for _, s := range p.Sample {
			if s.HasLabel(label, value) {
				return s
			}
		}
		t.Fatalf("no sample with %s %s in %s", label, value, p)
		return nil
	}
	sent := find("request", "apply vmq_swc_store:rpc_node_clock")
	if !sent.HasLabel("workload", "ae_exchange") || !sent.HasLabel("direction", "sent") || !sent.HasLabel("peer", "b@host") || sent.Value[0] != 2 {
		t.Errorf("%+v", sent)
	}
	if root := sent.Location[len(sent.Location)-1].Line[0].Function.Name; root != "vmq_swc_exchange_fsm:remote_node_clock/3" {
		t.Errorf("root %s", root)
	}
	received := find("direction", "received")
	if !received.HasLabel("workload", "replication") || received.Value[0] != 10 || received.Value[1] != 500 || len(received.Location) != 3 {
		t.Errorf("%+v", received)
	}
	if find("operation", "unlink_id").Value[1] != 20 {
		t.Error("what no process sends is missing")
	}
}

func TestSharesAndGroups(t *testing.T) {
	b, _ := build(t)
	shares := b.Shares()["b@host"]
	if math.Abs(shares["replication"]-500.0/720) > 1e-6 || math.Abs(shares["ae_exchange"]-200.0/720) > 1e-6 {
		t.Errorf("%v", shares)
	}
	groups := b.Groups(2)
	if len(groups) != 2 || groups[0].Bytes != 500 || !groups[0].Received || groups[1].Messages != 2 || groups[0].Destination != "vmq_swc_edist_metaN" {
		t.Errorf("%+v", groups)
	}
	if len(b.waiting) != 0 {
		t.Errorf("%d messages wait", len(b.waiting))
	}
}

// Beyond what is kept nothing is lost but the details.
func TestCrowded(t *testing.T) {
	rules, _ := attribution.Builtin("otp")
	b := NewBuilder(rules)
	for i := range uint64(maxRows + 10) {
		b.Add(&distribution.Message{Time: i, Node: "b@host", Bytes: i, Weight: 1, Operation: "link", Destination: string(rune('a' + i%20)), Request: time.Duration(i).String()})
	}
	b.Close()
	p, err := b.Profile(Info{})
	if err != nil {
		t.Fatal(err)
	}
	var count int64
	for _, s := range p.Sample {
		count += s.Value[0]
	}
	if count != maxRows+10 || b.crowded < 10 || len(p.Sample) > maxRows+10 {
		t.Errorf("%d messages in %d samples, %d without details", count, len(p.Sample), b.crowded)
	}
}

// Where the sender tells nothing, what is sent and to whom does.
func TestUnknownSender(t *testing.T) {
	rules, _ := attribution.Builtin("vernemq")
	b := NewBuilder(rules)
	for i, destination := range []string{"vmq_swc_edist_meta1", "vmq_reg_sync", distribution.OtherProcess} {
		b.Add(&distribution.Message{
			Time: 1, Node: "b@host", Bytes: 100, Weight: 1, Operation: "reg_send", Destination: destination, RequestType: "call", Request: "something",
			Sender: &collector.Sample{
				Thread: &collector.Thread{Kind: collector.ThreadScheduler}, State: collector.StateBIF, Stack: frames("gen_server:do_send/2"),
				Process: &collector.Process{PID: "<0.9.0>", Name: "gen_server:do_send/2", Kind: "gen_server:do_send/2"},
			},
		})
		if i == 0 && len(b.unknown) > 0 {
			t.Error("a message still waits")
		}
	}
	b.Close()
	got := map[string]string{}
	for r := range b.rows {
		got[r.destination] = r.workload
	}
	want := map[string]string{"vmq_swc_edist_meta1": "ae_exchange", "vmq_reg_sync": "client_churn", distribution.OtherProcess: "unattributed"}
	if !maps.Equal(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}
