// Package distribution aggregates messages between nodes into a profile in
// pprof's format: who sends most bytes, to whom and what for.
//
// A Builder takes messages as they come (Add). The workload of a message is
// that of the process that sends it, and of one received that of the process
// that gets it, handling this request. Nothing here does I/O.
package distribution

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/profiles/attribution"
)

// Bounds of what is kept.
const (
	maxRows  = 50_000 // different messages; beyond, only peer, direction and workload are kept
	maxKinds = 50_000 // kinds of receiving processes
)

// unit is what a message stands for in attribution: parts of it are fractions.
const unit = 1_000_000

// Builder counts messages. It is not safe for concurrent use.
type Builder struct {
	attribution *attribution.Attributor
	waiting     map[uint64]*waiting // by the time of their sample
	unknown     []uint64            // of these, those whose sender tells nothing
	kinds       map[string]*collector.Process
	frames      map[*collector.Frame]uint32
	order       []*collector.Frame
	markers     map[string]*collector.Frame
	rows        map[row]*sum
	rowOrder    []row
	scratch     []byte
	messages    uint64
	crowded     uint64 // messages whose details were not kept
}

// row is what makes two messages equal. With weight and bytes cleared it is the
// key of a sum.
type row struct {
	stack       string // numbers of frames, leaf first
	peer        string
	received    bool
	operation   string
	destination string
	requestType string
	request     string
	kind        string // of the process that sends
	workload    string
	weight      float64
	bytes       float64
}

// waiting is a message that is not attributed yet, or in part.
type waiting struct {
	row
	left  int64 // of unit
	again bool  // it is attributed for the second time
}

type sum struct{ messages, bytes float64 }

// NewBuilder returns an empty Builder that attributes messages with rules.
func NewBuilder(rules *attribution.Rules) *Builder {
	b := &Builder{
		waiting: map[uint64]*waiting{}, kinds: map[string]*collector.Process{}, frames: map[*collector.Frame]uint32{},
		markers: map[string]*collector.Frame{}, rows: map[row]*sum{},
	}
	b.attribution = attribution.New(rules, unit, b.attributed)
	return b
}

// Add counts a message. It and its sender's stack may be reused by the caller
// afterwards; frames and processes are kept.
func (b *Builder) Add(m *distribution.Message) {
	b.messages++
	r := row{
		peer: m.Node, received: m.Received, operation: m.Operation, destination: m.Destination, requestType: m.RequestType, request: m.Request,
		weight: m.Weight, bytes: m.Weight * float64(m.Bytes),
	}
	var s collector.Sample
	switch {
	case m.Received:
		r.stack = b.stack(b.place(m))
		s = b.receiving(&r)
	case m.Sender != nil:
		r.stack = b.stack(m.Sender.Stack)
		s = *m.Sender
		if s.Process != nil {
			r.kind = s.Process.Kind
		}
	default:
		r.stack = b.stack([]*collector.Frame{b.marker("[sent by the VM itself]")})
		s = collector.Sample{Thread: &collector.Thread{Kind: collector.ThreadScheduler}, State: collector.StateOther}
	}
	// The time tells the sample when it comes back.
	for s.Time = m.Time; b.waiting[s.Time] != nil; s.Time++ {
	}
	b.waiting[s.Time] = &waiting{row: r, left: unit}
	b.attribution.Add(&s)
	b.retry()
}

// retry attributes what was sent, and whose sender tells nothing, as those do
// who get it: what it is, and where it goes, say what for.
func (b *Builder) retry() {
	for _, at := range b.unknown {
		s := b.receiving(&b.waiting[at].row)
		s.Time = at
		b.attribution.Add(&s)
	}
	b.unknown = b.unknown[:0]
}

// place is the stack of a message received: its request, where it goes, who sends.
func (b *Builder) place(m *distribution.Message) []*collector.Frame {
	stack := make([]*collector.Frame, 0, 3)
	if what := strings.TrimSpace(m.RequestType + " " + m.Request); what != "" {
		stack = append(stack, b.marker(what))
	} else {
		stack = append(stack, b.marker(m.Operation))
	}
	node := m.Node
	if node == "" {
		node = "a node without a name"
	}
	return append(stack, b.marker(m.Destination), b.marker("received from "+node))
}

// receiving is the process that gets a message, when it handles it.
func (b *Builder) receiving(r *row) collector.Sample {
	tag, _, _ := strings.Cut(r.request, " ")
	s := collector.Sample{
		Thread: &collector.Thread{Kind: collector.ThreadScheduler}, State: collector.StateEmulator,
		Request: tag, RequestType: r.requestType,
	}
	if !named(r.destination) {
		return s
	}
	process := b.kinds[r.destination]
	if process == nil {
		if len(b.kinds) >= maxKinds {
			clear(b.kinds)
		}
		process = &collector.Process{Name: r.destination, Kind: kind(r.destination)}
		b.kinds[r.destination] = process
	}
	s.Process = process
	return s
}

// named tells whether it is known who gets a message.
func named(destination string) bool {
	switch destination {
	case distribution.Unknown, distribution.ProcessIsGone, distribution.Alias, "":
		return false
	}
	return true
}

// kind folds the numbers of a registered name. A function is a kind already.
func kind(destination string) string {
	if strings.Contains(destination, "/") {
		return destination
	}
	return beam.Kind(destination)
}

// attributed counts a part of a message, or all of it.
func (b *Builder) attributed(s *collector.Sample, part attribution.Part) {
	w := b.waiting[s.Time]
	if w == nil {
		return
	}
	if part.Basis == attribution.BasisNone && !w.again && !w.received && named(w.destination) && w.destination != distribution.OtherProcess {
		w.again = true
		b.unknown = append(b.unknown, s.Time)
		return
	}
	r := w.row
	r.workload = part.Workload
	b.count(r, float64(part.Nanoseconds)/unit)
	if w.left -= part.Nanoseconds; w.left <= 0 {
		delete(b.waiting, s.Time)
	}
}

func (b *Builder) count(r row, share float64) {
	weight, bytes := r.weight*share, r.bytes*share
	r.weight, r.bytes = 0, 0
	total := b.rows[r]
	if total == nil && len(b.rows) >= maxRows {
		b.crowded++
		r = row{peer: r.peer, received: r.received, workload: r.workload, stack: b.stack([]*collector.Frame{b.marker("[too many different messages]")})}
		total = b.rows[r]
	}
	if total == nil {
		total = &sum{}
		b.rows[r] = total
		b.rowOrder = append(b.rowOrder, r)
	}
	total.messages += weight
	total.bytes += bytes
}

// marker is the frame of something that is not code.
func (b *Builder) marker(name string) *collector.Frame {
	if known := b.markers[name]; known != nil {
		return known
	}
	if len(b.markers) >= maxKinds {
		clear(b.markers)
	}
	made := &collector.Frame{Kind: collector.FrameMarker, Function: name, Resolved: true}
	b.markers[name] = made
	return made
}

// stack numbers the frames of a stack.
func (b *Builder) stack(frames []*collector.Frame) string {
	b.scratch = b.scratch[:0]
	for _, frame := range frames {
		n, ok := b.frames[frame]
		if !ok {
			n = uint32(len(b.order))
			b.frames[frame] = n
			b.order = append(b.order, frame)
		}
		b.scratch = binary.NativeEndian.AppendUint32(b.scratch, n)
	}
	return string(b.scratch)
}

// Close attributes what waits for that.
func (b *Builder) Close() {
	b.attribution.Close()
	b.retry()
	b.attribution.Close()
	clear(b.waiting)
}

func whole(f float64) int64 { return int64(math.Round(f)) }
