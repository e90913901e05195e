// Package pprof aggregates samples into a profile in pprof's format.
//
// A Builder takes samples as they come (Add) and counts equal ones: the same
// stack with the same labels. Nothing is named before Profile, because the
// producer may still be resolving names while samples arrive.
package pprof

import (
	"fmt"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
)

// DefaultMaxStacks is how many different stacks (with their labels) a Builder
// keeps if Options does not say. With stacks of 40 frames it then holds about
// 30 MiB, and writing the profile takes about 200 MiB more for a second
// (BenchmarkProfile). Two busy cores sampled at 99 Hz for 30 s give at most
// 5940 different stacks, at 4999 Hz up to 299 940.
const DefaultMaxStacks = 100_000

// maxFramesPerStack bounds the frames kept over all stacks: on average this
// many per stack may be kept.
const maxFramesPerStack = 64

// Options say how a Builder counts.
type Options struct {
	Frequency int     // samples per second and CPU, at least 1
	MaxStacks int     // different stacks to keep; 0 means DefaultMaxStacks
	Callers   Callers // how to show who asked
}

// Builder counts samples. It is not safe for concurrent use.
type Builder struct {
	frequency int
	period    int64 // nanoseconds of CPU time that one sample stands for
	maxStacks int
	callers   Callers
	frames    frameTable
	stacks    stackTable
	labels    labelTable
	counts    []count
	index     map[pair]uint32    // into counts
	scratch   []uint32           // frame ids of the stack being added
	stack     []*collector.Frame // the same with the stacks of those who asked
	samples   uint64
	dropped   uint64
	overflow  *collector.Frame
}

// pair is what makes two samples equal.
type pair struct{ stack, labels uint32 }

type count struct {
	pair
	samples, nanoseconds int64
}

// NewBuilder returns an empty Builder. It panics if the frequency is below 1.
func NewBuilder(options Options) *Builder {
	if options.Frequency < 1 {
		panic(fmt.Sprintf("pprof: sampling frequency %d", options.Frequency))
	}
	if options.MaxStacks <= 0 {
		options.MaxStacks = DefaultMaxStacks
	}
	return &Builder{
		frequency: options.Frequency,
		period:    1_000_000_000 / int64(options.Frequency),
		maxStacks: options.MaxStacks,
		callers:   options.Callers,
		frames:    newFrameTable(),
		stacks:    newStackTable(),
		labels:    newLabelTable(),
		index:     make(map[pair]uint32),
		overflow: &collector.Frame{
			Kind:     collector.FrameMarker,
			Function: fmt.Sprintf("[stack not kept: more than %d different ones]", options.MaxStacks),
		},
	}
}

// Add counts a part of a sample. The sample and its stacks may be reused by the
// caller afterwards; its frames, thread and process are kept.
func (b *Builder) Add(s *collector.Sample, part attribution.Part) {
	b.samples += uint64(part.Samples)
	key := b.labelKey(s, part)
	stack := b.stitched(s)
	if b.full() && !b.known(stack, key) {
		b.addOverflow(key, part)
		return
	}
	b.scratch = b.frames.appendIDs(b.scratch[:0], stack)
	b.count(pair{b.stacks.intern(b.scratch), b.labels.intern(key)}, part)
}

// full tells whether new stacks can no longer be kept.
func (b *Builder) full() bool {
	return len(b.counts) >= b.maxStacks || len(b.stacks.arena) >= b.maxStacks*maxFramesPerStack
}

// known tells whether the sample equals one that was counted before.
func (b *Builder) known(stack []*collector.Frame, key labelKey) bool {
	ids, ok := b.frames.appendKnownIDs(b.scratch[:0], stack)
	b.scratch = ids
	if !ok {
		return false
	}
	id, ok := b.stacks.find(ids)
	if !ok {
		return false
	}
	labels, ok := b.labels.find(key)
	if !ok {
		return false
	}
	_, ok = b.index[pair{id, labels}]
	return ok
}

// addOverflow counts a sample whose stack is one too many: its time and labels
// stay in the profile, under one marker frame. A set of labels that is new as
// well is reduced to what is bounded by the number of threads.
func (b *Builder) addOverflow(key labelKey, part attribution.Part) {
	b.dropped += uint64(part.Samples)
	labels, ok := b.labels.find(key)
	if !ok {
		labels = b.labels.intern(key.bounded())
	}
	b.scratch = b.frames.appendIDs(b.scratch[:0], []*collector.Frame{b.overflow})
	b.count(pair{b.stacks.intern(b.scratch), labels}, part)
}

func (b *Builder) count(p pair, part attribution.Part) {
	i, ok := b.index[p]
	if !ok {
		i = uint32(len(b.counts))
		b.index[p] = i
		b.counts = append(b.counts, count{pair: p})
	}
	b.counts[i].samples += part.Samples
	b.counts[i].nanoseconds += part.Nanoseconds
}

// Samples returns the number of samples added.
func (b *Builder) Samples() uint64 { return b.samples }

// WithoutStack returns the number of samples whose stack was not kept because
// there were too many different ones. They are in the profile with their time
// and labels, under one marker frame.
func (b *Builder) WithoutStack() uint64 { return b.dropped }
