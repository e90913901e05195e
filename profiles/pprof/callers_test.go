package pprof

import (
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
)

// TestCallers: the stacks of those who wait go on below the sampled one, or are
// named by a label, or are left out. The workload is a label in any case.
func TestCallers(t *testing.T) {
	erlang := func(name string) *collector.Frame {
		return &collector.Frame{Kind: collector.FrameErlang, Function: name, Resolved: true}
	}
	store := &collector.Process{Name: "store", Kind: "store"}
	sample := &collector.Sample{
		Thread: &collector.Thread{Kind: collector.ThreadScheduler, Number: 1}, State: collector.StateNIF,
		Process: &collector.Process{Name: "db", Kind: "db"}, Request: "get", OnBehalfOf: "store",
		Stack: []*collector.Frame{erlang("db:get/1"), erlang("db:loop/1")},
		Callers: []collector.Caller{
			{Process: store, Request: "batch", Stack: []*collector.Frame{erlang("gen:call/4"), erlang("store:loop/1")}},
			{Process: &collector.Process{Name: "session", Kind: "session"}, Stack: []*collector.Frame{erlang("session:init/1")}},
		},
	}
	const own = "db:get/1 db:loop/1"
	for _, c := range []struct {
		callers      Callers
		stack, label string
	}{
		{CallersFrames, own + " [on behalf of] gen:call/4 store:loop/1 [on behalf of] session:init/1", ""},
		{CallersLabels, own, "store batch <- session"},
		{CallersNone, own, ""},
	} {
		b := NewBuilder(Options{Frequency: 99, Callers: c.callers})
		b.Add(sample, attribution.Part{Workload: "client_churn", Basis: "caller", Samples: 1, Nanoseconds: 7})
		b.Add(sample, attribution.Part{Workload: "client_churn", Basis: "caller", Nanoseconds: 3})
		p, err := b.Profile(Info{})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Sample) != 1 || p.Sample[0].Value[0] != 1 || p.Sample[0].Value[1] != 10 {
			t.Fatalf("%v", p.Sample)
		}
		var stack []string
		for _, l := range p.Sample[0].Location {
			stack = append(stack, l.Line[0].Function.Name)
		}
		if got := strings.Join(stack, " "); got != c.stack {
			t.Errorf("%d: stack %s, want %s", c.callers, got, c.stack)
		}
		labels := p.Sample[0].Label
		if got := strings.Join(labels["callers"], ","); got != c.label {
			t.Errorf("%d: label %q, want %q", c.callers, got, c.label)
		}
		if labels["workload"][0] != "client_churn" || labels["basis"][0] != "caller" || labels["on_behalf_of"][0] != "store" {
			t.Errorf("labels %v", labels)
		}
	}
}
