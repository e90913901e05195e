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
	counted   uint64  // packets, by whichever way of counting
	seen      uint64  // messages of which copies came
	owed      float64 // packets for which no message stands yet; below 0 if more do
	estimated float64 // messages that went by, probed or not
	weight    float64 // of the messages that were handed to the last look
}

// copies are the packets and messages of which copies came. They are not what
// the probes count meanwhile: copies are read a little later, and may be lost.
type copies struct{ packets, messages uint64 }

// weights tells for how many messages one that was probed stands, where the
// probes are in the VM for a part of the time only: the VM itself counts the
// packets of each connection. What goes by unseen is made up for by what was seen
// before on the same connection and is still to be handled, or else by what is
// seen next.
//
// The two ways of counting are not read at one instant. So where the VM's has its
// turn it is its whole count that stands: what was added before is taken off,
// and nothing at the border is counted by neither or by both.
type weights struct {
	carried map[carrier]*carried
	gap     bool // the probes were out of the VM since the last look
	sparse  bool // they were, at some time
	lossy   bool // copies were lost
}

func newWeights() *weights { return &weights{carried: map[carrier]*carried{}} }

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

// lost notes that copies were lost: what is left stands for them, too.
func (w *weights) lost() { w.lossy = true }

// look takes the counts of the VM and of the probes, and sets the weights of what
// was seen and is handled now.
func (w *weights) look(vm []beam.Connection, probes []bpf.Traffic, seen map[carrier]copies, name func(uint64) string) {
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
	for _, one := range probes {
		c := w.get(carrier{connectionKey{one.Entry, one.Connection}, one.Received})
		packets := one.Packets - min(c.probed, one.Packets)
		c.probed = one.Packets
		if c.node == "" {
			c.node = name(one.Node)
		}
		if !w.gap || !c.listed {
			c.owed += float64(packets)
			c.counted += packets
		}
	}
	for key, n := range seen {
		c := w.get(key)
		c.weight = 1
		if (w.sparse || w.lossy) && n.packets > 0 {
			c.weight = max(c.owed/float64(n.packets), 1)
		}
		c.seen += n.messages
		c.estimated += c.weight * float64(n.messages)
		c.owed -= c.weight * float64(n.packets)
	}
}

// of returns what a message of a connection stands for.
func (w *weights) of(key carrier) float64 {
	if c := w.carried[key]; c != nil {
		return c.weight
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
		probed += float64(c.seen)
	}
	if probed == 0 {
		return 1
	}
	return uint32(min(max(math.Round(all/probed), 1), math.MaxUint32))
}
