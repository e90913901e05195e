package summary

import (
	"fmt"
	"math"
	"path"
	"strings"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// maxKeys bounds each of the tables whose keys come from the target; what is
// beyond is counted under others.
const maxKeys = 100_000

// maxLabels bounds the kinds of threads: names of native threads are the target's.
const maxLabels = 256

// others is the name of what was too many to be counted one by one.
const others = "(others)"

// Options say how a Builder counts.
type Options struct {
	Frequency int // samples per second and CPU, at least 1
}

// Builder counts samples. It is not safe for concurrent use. Names of C and
// kernel functions are not read before Summary: they may be resolved until then.
type Builder struct {
	frequency int
	samples   uint64
	threads   map[string]*tables // by label `thread`, as each kind has its own weight
}

// tables hold nanoseconds of CPU time.
type tables struct {
	total          uint64
	withoutProcess uint64
	workloads      map[workloadKey]uint64
	workloadsOf    map[processWorkload]uint64
	unattributed   map[unattributedKey]uint64
	states         map[collector.State]uint64
	threads        map[string]uint64
	processes      map[*collector.Process]uint64
	moreKinds      map[string]uint64 // kinds of processes there was no room for
	requests       map[requestKey]uint64
	erlang         map[*collector.Frame]uint64 // by the leaf Erlang frame
	native         map[*collector.Frame]uint64 // by the leaf frame, if native or kernel
}

func newTables() *tables {
	return &tables{
		workloads:    make(map[workloadKey]uint64),
		workloadsOf:  make(map[processWorkload]uint64),
		unattributed: make(map[unattributedKey]uint64),
		states:       make(map[collector.State]uint64),
		threads:      make(map[string]uint64),
		processes:    make(map[*collector.Process]uint64),
		moreKinds:    make(map[string]uint64),
		requests:     make(map[requestKey]uint64),
		erlang:       make(map[*collector.Frame]uint64),
		native:       make(map[*collector.Frame]uint64),
	}
}

type requestKey struct{ kind, request, onBehalfOf string }

type workloadKey struct{ workload, basis string }

type processWorkload struct {
	process  *collector.Process
	workload string
}

// unattributedKey tells what was not attributed, and why.
type unattributedKey struct{ name, reason string }

// NewBuilder returns an empty Builder. It panics if the frequency is below 1.
func NewBuilder(options Options) *Builder {
	if options.Frequency < 1 {
		panic(fmt.Sprintf("summary: sampling frequency %d", options.Frequency))
	}
	return &Builder{frequency: options.Frequency, threads: make(map[string]*tables)}
}

// Samples returns the number of samples added.
func (b *Builder) Samples() uint64 { return b.samples }

// Add counts a part of a sample. The sample and its stack may be reused by the
// caller afterwards; its frames and process are kept.
func (b *Builder) Add(s *collector.Sample, part attribution.Part) {
	time := uint64(max(part.Nanoseconds, 0))
	b.samples += uint64(part.Samples)
	label := ""
	if s.Thread != nil {
		label = s.Thread.Label()
	}
	t, ok := b.threads[label]
	if !ok && len(b.threads) >= maxLabels {
		label = others
		t, ok = b.threads[label]
	}
	if !ok {
		t = newTables()
		b.threads[label] = t
	}
	t.add(s, part, label, time)
}

func (t *tables) add(s *collector.Sample, part attribution.Part, label string, time uint64) {
	t.total += time
	t.states[s.State] += time
	if label != "" {
		t.threads[label] += time
	}
	t.addWorkload(s, part, time)
	t.addProcess(s, time)
	t.addCode(s.Stack, time)
}

// weighted returns the tables of all threads as one, each multiplied with its weight.
func (b *Builder) weighted(weights map[string]float64) *tables {
	all := newTables()
	for label, t := range b.threads {
		weight, ok := weights[label]
		if !ok {
			weight = 1
		}
		all.total += scaled(t.total, weight)
		all.withoutProcess += scaled(t.withoutProcess, weight)
		addScaled(all.workloads, t.workloads, weight)
		addScaled(all.workloadsOf, t.workloadsOf, weight)
		addScaled(all.unattributed, t.unattributed, weight)
		addScaled(all.states, t.states, weight)
		addScaled(all.threads, t.threads, weight)
		addScaled(all.processes, t.processes, weight)
		addScaled(all.moreKinds, t.moreKinds, weight)
		addScaled(all.requests, t.requests, weight)
		addScaled(all.erlang, t.erlang, weight)
		addScaled(all.native, t.native, weight)
	}
	return all
}

func scaled(time uint64, weight float64) uint64 { return uint64(math.Round(float64(time) * weight)) }

func addScaled[K comparable](into, table map[K]uint64, weight float64) {
	for key, time := range table {
		into[key] += scaled(time, weight)
	}
}

func (t *tables) addWorkload(s *collector.Sample, part attribution.Part, time uint64) {
	t.workloads[workloadKey{part.Workload, part.Basis}] += time
	if s.Process != nil {
		key := processWorkload{s.Process, part.Workload}
		if _, ok := t.workloadsOf[key]; ok || len(t.workloadsOf) < maxKeys {
			t.workloadsOf[key] += time
		}
	}
	if part.Workload == attribution.Unattributed {
		add(t.unattributed, unattributedKey{subject(s), part.Reason}, unattributedKey{name: others}, time)
	}
}

// subject names what a sample is of, for people.
func subject(s *collector.Sample) string {
	switch {
	case s.Process != nil && s.Request != "":
		return s.Process.Kind + " <- " + s.Request
	case s.Process != nil:
		return s.Process.Kind
	case s.Port != nil && s.Port.Owner != nil:
		return "port of " + s.Port.Owner.Kind
	case s.Port != nil:
		return "port " + s.Port.Name
	case s.Thread != nil:
		return "thread " + s.Thread.Label() + ", " + s.State.String()
	}
	return s.State.String()
}

func (t *tables) addProcess(s *collector.Sample, time uint64) {
	kind := ""
	if s.Process == nil {
		t.withoutProcess += time
	} else {
		kind = s.Process.Kind
		if _, ok := t.processes[s.Process]; ok || len(t.processes) < maxKeys {
			t.processes[s.Process] += time
		} else {
			add(t.moreKinds, kind, others, time)
		}
	}
	if s.Request != "" || s.OnBehalfOf != "" {
		add(t.requests, requestKey{kind, s.Request, s.OnBehalfOf}, requestKey{kind: others}, time)
	}
}

// addCode counts the leaf, if it is C or kernel code, and the Erlang function
// that ran or called it.
func (t *tables) addCode(stack []*collector.Frame, time uint64) {
	for i, frame := range stack {
		if frame.Kind == collector.FrameMarker {
			continue
		}
		if frame.Kind != collector.FrameErlang {
			t.native[frame] += time
		}
		if leaf := erlangLeaf(stack[i:]); leaf != nil {
			t.erlang[leaf] += time
		}
		return
	}
}

// erlangLeaf returns the first Erlang frame that is a function, or nil: fragments
// that all Erlang code shares do not tell whose time it is. Where nothing else is
// there it is the VM's, as in its scheduler's loop (global::process_main).
func erlangLeaf(stack []*collector.Frame) *collector.Frame {
	for _, frame := range stack {
		if frame.Kind == collector.FrameErlang && !strings.HasPrefix(frame.Function, "global::") {
			return frame
		}
	}
	return nil
}

// add counts time for key, or instead of it if the table is full.
func add[K comparable](table map[K]uint64, key, instead K, time uint64) {
	if _, ok := table[key]; !ok && len(table) >= maxKeys {
		key = instead
	}
	table[key] += time
}

// object names where native or kernel code is from.
func object(frame *collector.Frame) string {
	switch {
	case frame.Kind == collector.FrameKernel:
		return "[kernel]"
	case frame.Mapping == nil:
		return ""
	}
	return text.Clean(path.Base(frame.Mapping.File))
}
