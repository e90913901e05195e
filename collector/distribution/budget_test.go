package distribution

import (
	"math"
	"testing"
	"time"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/beam"
)

// Whatever the rate, the probes take no more than their share in the long run,
// and where there is enough for every message none is missed.
func TestBudget(t *testing.T) {
	for rate, always := range map[float64]bool{100: true, 1900: true, 3000: false, 100_000: false, 1_000_000: false} {
		now := time.Unix(0, 0)
		b := newBudget(sampledShare, now)
		var spent time.Duration
		rests := 0
		const tick = 20 * time.Millisecond // the probes are out this long after they should be
		for end := now.Add(10 * time.Minute); now.Before(end); {
			now = now.Add(tick)
			messages := uint64(rate * tick.Seconds())
			spent += time.Duration(messages) * probeCost
			if !b.spend(messages, now) {
				rests++
				now = now.Add(b.rest())
			}
		}
		share := spent.Seconds() / now.Sub(time.Unix(0, 0)).Seconds()
		if share > sampledShare*1.1 || always != (rests == 0) || !always && share < sampledShare*0.7 {
			t.Errorf("%g messages/s: %.4f of a core, %d rests", rate, share, rests)
		}
	}
}

// What is seen stands for what is not, and nothing is counted twice.
func TestWeights(t *testing.T) {
	w := newWeights()
	vm := func(sent uint64) []beam.Connection {
		return []beam.Connection{{Entry: 1, ID: 1, Node: "b@host", Sent: sent}}
	}
	probes := func(packets, messages uint64) []bpf.Traffic {
		return []bpf.Traffic{{Entry: 1, Connection: 1, Packets: packets, Messages: messages}}
	}
	name := func(uint64) string { return "" }
	key := carrier{connectionKey{1, 1}, false}
	seen := func(packets, messages uint64) map[carrier]copies { return map[carrier]copies{key: {packets, messages}} }
	total := func() uint64 {
		for _, one := range w.add(nil) {
			if one.Node == "b@host" {
				return one.SentMessages
			}
		}
		return 0
	}
	w.begin(vm(1000))
	if w.look(vm(1011), probes(11, 10), seen(11, 10), name); w.of(key) != 1 || total() != 10 {
		t.Errorf("without a gap: weight %g, %d in all", w.of(key), total())
	}
	w.interrupted()
	if w.look(vm(1111), probes(11, 10), nil, name); total() != 110 {
		t.Errorf("nothing probed: %d in all", total())
	}
	if w.look(vm(1211), probes(31, 30), seen(10, 10), name); w.of(key) != 20 || total() != 210 {
		t.Errorf("after a gap, half of the copies lost: weight %g, %d in all", w.of(key), total())
	}
	if w.of(carrier{connectionKey{2, 1}, true}) != 1 {
		t.Error("a connection never seen has a weight")
	}
	w.gap = false
	gone := carrier{connectionKey{2, 7}, true}
	if w.look(nil, append(probes(31, 30), bpf.Traffic{Entry: 2, Connection: 7, Received: true, Packets: 3, Messages: 1}), map[carrier]copies{gone: {3, 1}}, name); w.of(gone) != 1 {
		t.Error("a connection that is gone has a weight")
	}
	if every := w.every(); math.Abs(float64(every)-211.0/21) > 0.5 {
		t.Errorf("one in %d", every)
	}
	// Counters that go back are no messages.
	w.interrupted()
	if w.look(vm(0), probes(0, 0), nil, name); total() != 210 {
		t.Errorf("weight %g, %d in all", w.of(key), total())
	}
}

// The probes' counts are read a little before the VM's: what goes by meanwhile is
// counted once, whichever way of counting has its turn next.
func TestBorder(t *testing.T) {
	w := newWeights()
	before := uint64(0)
	look := func(packets, probed uint64) {
		w.look([]beam.Connection{{Entry: 1, ID: 1, Node: "b@host", Sent: 1000 + packets}},
			[]bpf.Traffic{{Entry: 1, Connection: 1, Packets: probed, Messages: probed}}, map[carrier]copies{{connectionKey{1, 1}, false}: {probed - before, probed - before}}, func(uint64) string { return "" })
		before = probed
	}
	expect := func(when string, want uint64) {
		t.Helper()
		if totals := w.add(nil); len(totals) != 1 || totals[0].SentMessages != want {
			t.Errorf("%s: %+v, not %d", when, totals, want)
		}
	}
	w.begin([]beam.Connection{{Entry: 1, ID: 1, Node: "b@host", Sent: 1000}})
	look(150, 100)
	expect("all are probed", 100)
	w.interrupted()
	look(400, 160)
	expect("they are not any more", 400)
	w.gap = false // a slice
	look(480, 220)
	look(560, 300)
	w.interrupted()
	look(700, 310)
	expect("and again", 700)
	w.gap = false
	look(790, 380)
	w.gap = w.sparse // the end
	look(800, 400)
	expect("at the end", 800)
}

// Copies are read a little later than they are counted. What was counted already
// when the probes were out is not what a few late copies stand for.
func TestLateCopies(t *testing.T) {
	w := newWeights()
	key := carrier{connectionKey{1, 1}, false}
	look := func(sent, probed, seen uint64) float64 {
		w.look([]beam.Connection{{Entry: 1, ID: 1, Node: "b@host", Sent: sent}}, []bpf.Traffic{{Entry: 1, Connection: 1, Packets: probed, Messages: probed}},
			map[carrier]copies{key: {seen, seen}}, func(uint64) string { return "" })
		return w.of(key) * float64(seen)
	}
	w.begin([]beam.Connection{{Entry: 1, ID: 1, Node: "b@host"}})
	sum := look(1000, 1000, 900) // all are in, and a hundred under way
	w.interrupted()
	sum += look(51_000, 1001, 101) // one was counted since
	w.gap = false
	sum += look(51_200, 1101, 50)
	sum += look(51_300, 1101, 50)
	w.interrupted()
	sum += look(60_000, 1201, 100)
	if sum != 60_000 {
		t.Errorf("copies stand for %g messages of 60000", sum)
	}
}
