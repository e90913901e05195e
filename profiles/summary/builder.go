package summary

import (
	"fmt"
	"path"
	"strings"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// maxKeys bounds each of the tables whose keys come from the target; what is
// beyond is counted under others.
const maxKeys = 100_000

// others is the name of what was too many to be counted one by one.
const others = "(others)"

// Options say how a Builder counts.
type Options struct {
	Frequency int // samples per second and CPU, at least 1
}

// Builder counts samples. All tables hold nanoseconds of CPU time. It is not safe for concurrent use. Names of C and
// kernel functions are not read before Summary: they may be resolved until then.
type Builder struct {
	frequency      int
	samples        uint64
	total          uint64 // nanoseconds
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
	return &Builder{
		frequency:    options.Frequency,
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

// Samples returns the number of samples added.
func (b *Builder) Samples() uint64 { return b.samples }

// Add counts a part of a sample. The sample and its stack may be reused by the
// caller afterwards; its frames and process are kept.
func (b *Builder) Add(s *collector.Sample, part attribution.Part) {
	time := uint64(max(part.Nanoseconds, 0))
	b.samples += uint64(part.Samples)
	b.total += time
	b.states[s.State] += time
	if s.Thread != nil {
		add(b.threads, s.Thread.Label(), others, time)
	}
	b.addWorkload(s, part, time)
	b.addProcess(s, time)
	b.addCode(s.Stack, time)
}

func (b *Builder) addWorkload(s *collector.Sample, part attribution.Part, time uint64) {
	b.workloads[workloadKey{part.Workload, part.Basis}] += time
	if s.Process != nil {
		key := processWorkload{s.Process, part.Workload}
		if _, ok := b.workloadsOf[key]; ok || len(b.workloadsOf) < maxKeys {
			b.workloadsOf[key] += time
		}
	}
	if part.Workload == attribution.Unattributed {
		add(b.unattributed, unattributedKey{subject(s), part.Reason}, unattributedKey{name: others}, time)
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

func (b *Builder) addProcess(s *collector.Sample, time uint64) {
	kind := ""
	if s.Process == nil {
		b.withoutProcess += time
	} else {
		kind = s.Process.Kind
		if _, ok := b.processes[s.Process]; ok || len(b.processes) < maxKeys {
			b.processes[s.Process] += time
		} else {
			add(b.moreKinds, kind, others, time)
		}
	}
	if s.Request != "" || s.OnBehalfOf != "" {
		add(b.requests, requestKey{kind, s.Request, s.OnBehalfOf}, requestKey{kind: others}, time)
	}
}

// addCode counts the leaf, if it is C or kernel code, and the Erlang function
// that ran or called it.
func (b *Builder) addCode(stack []*collector.Frame, time uint64) {
	for i, frame := range stack {
		if frame.Kind == collector.FrameMarker {
			continue
		}
		if frame.Kind != collector.FrameErlang {
			b.native[frame] += time
		}
		if leaf := erlangLeaf(stack[i:]); leaf != nil {
			b.erlang[leaf] += time
		}
		return
	}
}

// erlangLeaf returns the first Erlang frame that is a function; fragments that
// all Erlang code shares (global::call_light_bif_shared) do not tell whose
// time it is, so they count only if nothing else is there.
func erlangLeaf(stack []*collector.Frame) *collector.Frame {
	var fragment *collector.Frame
	for _, frame := range stack {
		if frame.Kind != collector.FrameErlang {
			continue
		}
		if !strings.HasPrefix(frame.Function, "global::") {
			return frame
		}
		if fragment == nil {
			fragment = frame
		}
	}
	return fragment
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
