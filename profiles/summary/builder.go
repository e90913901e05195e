package summary

import (
	"fmt"
	"path"
	"strings"

	"github.com/beamprof/beamprof/collector"
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

// Builder counts samples. It is not safe for concurrent use. Names of C and
// kernel functions are not read before Summary: they may be resolved until then.
type Builder struct {
	frequency      int
	samples        uint64
	withoutProcess uint64
	states         map[collector.State]uint64
	threads        map[string]uint64
	processes      map[*collector.Process]uint64
	moreKinds      map[string]uint64 // kinds of processes there was no room for
	requests       map[requestKey]uint64
	erlang         map[*collector.Frame]uint64 // by the leaf Erlang frame
	native         map[*collector.Frame]uint64 // by the leaf frame, if native or kernel
}

type requestKey struct{ kind, request, onBehalfOf string }

// NewBuilder returns an empty Builder. It panics if the frequency is below 1.
func NewBuilder(options Options) *Builder {
	if options.Frequency < 1 {
		panic(fmt.Sprintf("summary: sampling frequency %d", options.Frequency))
	}
	return &Builder{
		frequency: options.Frequency,
		states:    make(map[collector.State]uint64),
		threads:   make(map[string]uint64),
		processes: make(map[*collector.Process]uint64),
		moreKinds: make(map[string]uint64),
		requests:  make(map[requestKey]uint64),
		erlang:    make(map[*collector.Frame]uint64),
		native:    make(map[*collector.Frame]uint64),
	}
}

// Samples returns the number of samples added.
func (b *Builder) Samples() uint64 { return b.samples }

// Add counts one sample. The sample and its stack may be reused by the caller
// afterwards; its frames and process are kept.
func (b *Builder) Add(s *collector.Sample) {
	b.samples++
	b.states[s.State]++
	if s.Thread != nil {
		increment(b.threads, s.Thread.Label(), others)
	}
	b.addProcess(s)
	b.addCode(s.Stack)
}

func (b *Builder) addProcess(s *collector.Sample) {
	kind := ""
	if s.Process == nil {
		b.withoutProcess++
	} else {
		kind = s.Process.Kind
		if _, ok := b.processes[s.Process]; ok || len(b.processes) < maxKeys {
			b.processes[s.Process]++
		} else {
			increment(b.moreKinds, kind, others)
		}
	}
	if s.Request != "" || s.OnBehalfOf != "" {
		increment(b.requests, requestKey{kind, s.Request, s.OnBehalfOf}, requestKey{kind: others})
	}
}

// addCode counts the leaf, if it is C or kernel code, and the Erlang function
// that ran or called it.
func (b *Builder) addCode(stack []*collector.Frame) {
	for i, frame := range stack {
		if frame.Kind == collector.FrameMarker {
			continue
		}
		if frame.Kind != collector.FrameErlang {
			b.native[frame]++
		}
		if leaf := erlangLeaf(stack[i:]); leaf != nil {
			b.erlang[leaf]++
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

// increment counts key, or instead of it if the table is full.
func increment[K comparable](table map[K]uint64, key, instead K) {
	if _, ok := table[key]; !ok && len(table) >= maxKeys {
		key = instead
	}
	table[key]++
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
