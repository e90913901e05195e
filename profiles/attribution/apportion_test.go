package attribution

import (
	"maps"
	"math/rand/v2"
	"testing"
	"testing/quick"

	"github.com/beamprof/beamprof/collector"
)

const poolRules = `
name: pool
workloads: {a: "", b: "", c: "", rest: "", vm: ""}
rules:
  - {when: {state: native, thread: slow}, then: [apportion, rest], over: {thread: pool}}
  - {when: {state: native}, then: [apportion, rest], over: [{function: "m:submit/1"}, {function: "m:other/1"}]}
  - {when: {process: a}, then: a}
  - {when: {process: b}, then: b}
  - {when: {process: c}, then: c}
  - {when: {process: mixed, request: x}, then: a}
  - {when: {process: mixed}, then: [apportion, rest], over: [same process, same kind]}
`

// TestTotalsArePreserved: whatever is split, the parts of all samples add up to
// the samples, and each sample's parts to its time.
func TestTotalsArePreserved(t *testing.T) {
	rules := parse(t, poolRules)
	check := func(seed uint64, frequency uint16) bool {
		random := rand.New(rand.NewPCG(seed, 1))
		w := newWho()
		time := 1_000_000_000 / (1 + int64(frequency)%4999)
		added, counted := 0, int64(0)
		each := map[uint64]int64{}
		a := New(rules, time, func(s *collector.Sample, p Part) {
			counted += p.Samples
			each[s.Time] += p.Nanoseconds
			if p.Nanoseconds < 0 || p.Samples < 0 || p.Workload == "" || p.Basis == "" {
				t.Errorf("odd part %+v", p)
			}
		})
		for range random.IntN(3000) {
			var s *collector.Sample
			switch random.IntN(5) {
			case 0:
				s = w.native("pool")
			case 1:
				s = w.native("slow")
			case 2:
				s = w.sample([]string{"a", "b", "c", "mixed", "nobody"}[random.IntN(5)], []string{"", "call x"}[random.IntN(2)], "m:submit/1")
			default:
				s = w.sample([]string{"a", "b", "mixed"}[random.IntN(3)], "", []string{"m:other/1", "m:f/1"}[random.IntN(2)])
			}
			w.clock += random.Uint64N(40_000_000)
			s.Time = w.clock
			added++
			a.Add(s)
		}
		a.Close()
		for _, got := range each {
			if got != time {
				t.Errorf("a sample of %d ns became %d ns", time, got)
			}
		}
		if counted != int64(added) || len(each) != added {
			t.Errorf("%d samples became %d, %d were passed on", added, counted, len(each))
		}
		return !t.Failed()
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 60}); err != nil {
		t.Error(err)
	}
}

func TestShareAddsUp(t *testing.T) {
	check := func(total uint32, a, b, c uint32, last int64) bool {
		weights := []int64{int64(a), 0, int64(b), int64(c) + 1, max(last, 0)}
		var sum int64
		for i, part := range share(int64(total), weights) {
			if part < 0 || weights[i] == 0 && part != 0 {
				return false
			}
			sum += part
		}
		return sum == int64(total)
	}
	if err := quick.Check(check, nil); err != nil {
		t.Error(err)
	}
}

// TestSlices: what is in the same second counts; if that is nothing, what is in
// the whole window; if that is nothing too, what the rule says.
func TestSlices(t *testing.T) {
	rules := parse(t, poolRules)
	const second = 1_000_000_000
	at := func(s *collector.Sample, time uint64) *collector.Sample { s.Time = time; return s }
	w := newWho()
	first, second1, third, alone := w.native("pool"), w.native("pool"), w.native("pool"), w.native("pool")
	parts := attribute(rules,
		at(w.sample("a", "", "m:submit/1"), 1), at(first, 2),
		at(w.sample("b", "", "m:submit/1"), second+3), at(second1, second+4),
		at(third, 3*second))
	if p := parts[first]; len(p) != 1 || p[0].Workload != "a" {
		t.Errorf("in the first second: %+v", p)
	}
	if p := parts[second1]; len(p) != 1 || p[0].Workload != "b" {
		t.Errorf("in the second: %+v", p)
	}
	if p := parts[third]; len(p) != 2 || p[0].Basis != BasisApportioned {
		t.Errorf("when nobody submits: %+v", p)
	}
	if p := attribute(rules, alone)[alone]; len(p) != 1 || p[0].Workload != "rest" || p[0].Basis != BasisProcess {
		t.Errorf("when nobody ever submits: %+v", p)
	}
}

// TestWhatIsSplitCountsForOthers: a pool that works for another pool.
func TestWhatIsSplitCountsForOthers(t *testing.T) {
	w := newWho()
	slow, pool := w.native("slow"), w.native("pool")
	parts := attribute(parse(t, poolRules), slow, pool, w.sample("c", "", "m:submit/1"))
	for _, s := range []*collector.Sample{slow, pool} {
		if p := parts[s]; len(p) != 1 || p[0].Workload != "c" {
			t.Errorf("%s: %+v", s.Thread.Name, p)
		}
	}
}

// TestIncompleteEvidence: as long as some that a pool works for are not decided,
// the others do not stand for all.
func TestIncompleteEvidence(t *testing.T) {
	rules := parse(t, `
name: queue
workloads: {a: "", b: "", vm: ""}
rules:
  - {when: {state: native}, then: apportion, over: {function: "m:submit/1"}}
  - {when: {process: server}, then: [apportion, b], over: {function: "m:ask/1"}}
  - {when: {process: a}, then: a}
  - {when: {process: b}, then: b}
`)
	w := newWho()
	at := func(s *collector.Sample, time uint64) *collector.Sample { s.Time = time; return s }
	pool := w.native("pool")
	parts := attribute(rules,
		at(w.sample("a", "", "m:submit/1"), 1), at(w.sample("server", "", "m:submit/1"), 2), at(pool, 3),
		at(w.sample("b", "", "m:ask/1"), 2_000_000_000))
	times := map[string]int64{}
	for _, p := range parts[pool] {
		times[p.Workload] += p.Nanoseconds
	}
	if times["a"] != period/2 || times["b"] != period/2 {
		t.Errorf("the pool is split into %v", times)
	}
}

// TestSameProcess: a process is split as its other samples are, or as those of
// its kind if it has none.
func TestSameProcess(t *testing.T) {
	w := newWho()
	known := w.sample("mixed", "call x")
	loop := w.sample("mixed", "")
	other := w.sample("mixed", "")
	other.Process = &collector.Process{PID: "<0.2.0>", Name: "mixed", Kind: "mixed"}
	parts := attribute(parse(t, poolRules), loop, known, other)
	for _, s := range []*collector.Sample{loop, other} {
		if p := parts[s]; len(p) != 1 || p[0].Workload != "a" || p[0].Basis != BasisApportioned {
			t.Errorf("%s: %+v", s.Process.PID, p)
		}
	}
}

// TestHeldSamplesAreBounded: a slice ends early rather than to hold more.
func TestHeldSamplesAreBounded(t *testing.T) {
	w := newWho()
	passed := 0
	a := New(parse(t, poolRules), period, func(*collector.Sample, Part) { passed++ })
	for i := range 5 * (maxHeld + maxLate) {
		s := w.native("pool")
		s.Time = uint64(1 + i)
		a.Add(s)
		if held := len(a.apportion.held) + len(a.apportion.late); held > maxHeld+maxLate+maxHeld {
			t.Fatalf("%d samples are held", held)
		}
	}
	a.Close()
	if passed != 5*(maxHeld+maxLate) {
		t.Errorf("%d passed", passed)
	}
}

// TestMessages: a connection's time is split by the messages with its node,
// which are known at the end; what is known earlier is not used for it.
func TestMessages(t *testing.T) {
	rules := parse(t, `
name: nodes
workloads: {a: "", b: "", rest: "", vm: ""}
rules:
  - {when: {process: connection}, then: [apportion, rest], over: [messages, {process: a}]}
  - {when: {process: a}, then: a}
`)
	for name, test := range map[string]struct {
		await bool
		costs map[string]float64
		peer  string
		want  map[string]int64
	}{
		"by messages":                     {true, map[string]float64{"a": 100, "b": 300, "vm": 1000, Unattributed: 5}, "x@host", map[string]int64{"a": 1000 + 250, "b": 750}},
		"none with this node":             {true, map[string]float64{"b": 300}, "y@host", map[string]int64{"a": 2000}},
		"not looked into":                 {false, nil, "x@host", map[string]int64{"a": 2000}},
		"a process that is no connection": {true, map[string]float64{"b": 300}, "", map[string]int64{"a": 2000}},
	} {
		got := map[string]int64{}
		a := New(rules, 1000, func(_ *collector.Sample, p Part) { got[p.Workload] += p.Nanoseconds })
		if test.await {
			a.AwaitMessages()
		}
		w := newWho()
		s := w.sample("connection", "", "m:f/1")
		s.Time, s.Peer = 1, test.peer
		a.Add(s)
		s = w.sample("a", "", "m:f/1")
		s.Time = 2
		a.Add(s)
		for workload, cost := range test.costs {
			a.CountMessages("x@host", workload, cost)
		}
		a.Close()
		if !maps.Equal(got, test.want) {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
}
