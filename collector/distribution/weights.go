package distribution

import (
	"math"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/beam"
)

// carrier is a connection in one direction.
type carrier struct {
	connectionKey
	received bool
}

// carried is what went over a connection in one direction.
type carried struct {
	node      string
	base      uint64  // the VM's count of packets when counting began
	packets   uint64  // as the VM counts since, at the last look
	listed    bool    // by the VM, at the last look
	probed    uint64  // as the probes count, at the last look
	messages  uint64  // likewise
	counted   uint64  // packets, by whichever way of counting
	owed      float64 // packets for which no message stands yet; below 0 if more do
	estimated float64 // messages that went by, probed or not
	weight    float64 // of the messages probed since the last look but one
}

// weights tells for how many messages one that was probed stands, where the
// probes are in the VM for a part of the time only: the VM itself counts the
// packets of each connection. What goes by unseen is made up for by what is seen
// next on the same connection.
//
// The two ways of counting are not read at one instant. So where the VM's has its
// turn it is its whole count that stands: what was added before is taken off,
// and nothing at the border is counted by neither or by both.
type weights struct {
	carried map[carrier]*carried
	gap     bool    // the probes were out of the VM since the last look
	sparse  bool    // they were, at some time
	left    float64 // of the copies since the last look but one, those that were not lost
}

func newWeights() *weights { return &weights{carried: map[carrier]*carried{}, left: 1} }

func (w *weights) get(key carrier) *carried {
	c := w.carried[key]
	if c == nil {
		c = &carried{weight: 1}
		w.carried[key] = c
	}
	return c
}

// begin takes what the VM has counted as the base.
func (w *weights) begin(vm []beam.Connection) {
	w.vmCounts(vm, func(c *carried, n uint64) { c.base = n })
}

func (w *weights) vmCounts(vm []beam.Connection, f func(*carried, uint64)) {
	for _, one := range vm {
		for received, n := range map[bool]uint64{false: one.Sent, true: one.Received} {
			c := w.get(carrier{connectionKey{one.Entry, one.ID}, received})
			c.node = one.Node
			f(c, n)
		}
	}
}

// interrupted notes that the probes are out of the VM.
func (w *weights) interrupted() { w.gap, w.sparse = true, true }

// look takes the counts of the VM and of the probes, and sets the weights of
// what was probed since the last look. lost is how many copies of it were lost:
// what is left stands for them, too.
func (w *weights) look(vm []beam.Connection, probes []bpf.Traffic, lost uint64, name func(uint64) string) {
	for _, c := range w.carried {
		c.listed = false
	}
	w.vmCounts(vm, func(c *carried, n uint64) {
		c.packets, c.listed = max(c.packets, n-min(c.base, n)), true
		if w.gap {
			c.owed += float64(c.packets) - float64(c.counted)
			c.counted = c.packets
		}
	})
	var copies uint64
	for _, one := range probes {
		c := w.get(carrier{connectionKey{one.Entry, one.Connection}, one.Received})
		packets, messages := one.Packets-min(c.probed, one.Packets), one.Messages-min(c.messages, one.Messages)
		c.probed, c.messages, c.weight = one.Packets, one.Messages, 1
		if c.node == "" {
			c.node = name(one.Node)
		}
		copies += messages
		if packets == 0 {
			continue
		}
		if !w.gap || !c.listed {
			c.owed += float64(packets)
			c.counted += packets
		}
		c.weight = max(c.owed/float64(packets), 1)
		c.estimated += c.weight * float64(messages)
		c.owed -= c.weight * float64(packets)
	}
	w.left = 1
	if lost < copies {
		w.left = float64(copies-lost) / float64(copies)
	}
}

// of returns what a message of a connection stands for.
func (w *weights) of(key carrier) float64 {
	if c := w.carried[key]; c != nil {
		return c.weight / w.left
	}
	return 1
}

// add adds the messages to the totals of the nodes. Packets that no message
// stands for count as messages.
func (w *weights) add(totals []Total) []Total {
	index := map[string]int{}
	for i := range totals {
		index[totals[i].Node] = i
	}
	for key, c := range w.carried {
		messages := uint64(max(math.Round(c.estimated+c.owed), 0))
		if messages == 0 {
			continue
		}
		i, ok := index[c.node]
		if !ok {
			i = len(totals)
			index[c.node] = i
			totals = append(totals, Total{Node: c.node})
		}
		if key.received {
			totals[i].ReceivedMessages += messages
		} else {
			totals[i].SentMessages += messages
		}
	}
	return totals
}

// every returns how many messages went by for each one that was probed.
func (w *weights) every() uint32 {
	var all, probed float64
	for _, c := range w.carried {
		all += c.estimated + c.owed
		probed += float64(c.messages)
	}
	if probed == 0 {
		return 1
	}
	return uint32(min(max(math.Round(all/probed), 1), math.MaxUint32))
}
