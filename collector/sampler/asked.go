package sampler

import (
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/gen"
)

// A behaviour's loop is called from proc_lib's few frames next to the root; an
// event manager calls its handlers from a recursion over all of them.
const (
	behaviourDepth = 6
	handlersDepth  = 64
)

// asked tells what a process is doing for another one: the request it handles,
// the kind of the process that asked, and the chain of processes that wait.
func (d *decoder) asked(r *record, s *collector.Sample) {
	call, ok := d.request(chunk{r.ErlangRoot, r.root}, d.spans, r.terms, r.Time)
	if !ok {
		return
	}
	s.Request, s.RequestType = call.Request, call.Type
	s.Callers = d.callers(r, call.From)
	if len(s.Callers) > 0 {
		s.OnBehalfOf = s.Callers[0].Process.Kind
	} else {
		s.OnBehalfOf = d.people.onBehalfOf(call.From)
	}
}

// request finds the request that a process handles in its frames near the root:
// lower is the copy of its stack next to the root, spans are all its frames.
func (d *decoder) request(lower chunk, spans []span, terms []byte, at uint64) (call gen.Call, ok bool) {
	d.terms = copiedTerms{target: d.target, bytes: terms}
	for depth, limit := 1, behaviourDepth; depth <= min(limit, len(spans)); depth++ {
		s := spans[len(spans)-depth]
		function := d.frames.jitFrame(place{pc: s.pc}, at).Function
		if !d.behaviours.Contains(function) {
			continue
		}
		known, more := d.behaviours.Read(&call, function, d.registers(lower, s), &d.terms)
		ok = ok || known
		if more {
			limit = handlersDepth
		} else if known {
			break
		}
	}
	call.Request = label(call.Request)
	return call, ok
}

// registers returns the Y registers of a frame in the root part of a stack.
func (d *decoder) registers(lower chunk, s span) []uint64 {
	last := s.next
	if d.target.Code.FrameLayout() == 1 { // the next frame's saved frame pointer
		last -= 8
	}
	d.y = d.y[:0]
	for at := s.from + 8; at < last && lower.contains(at); at += 8 {
		d.y = append(d.y, lower.word(at))
	}
	return d.y
}

// callerSize is the size of the fixed part of a copied caller.
const callerSize = int(unsafe.Sizeof(bpf.Caller{}))

// callers returns the chain of processes that wait for a sampled one: the first
// has the pid from, which the frames of the sampled one hold, and so on. The
// kernel side followed what looked like it; where that was something else the
// chain ends.
func (d *decoder) callers(r *record, from uint64) []collector.Caller {
	d.chain, d.chainStacks = d.chain[:0], d.chainStacks[:0]
	layout := &d.target.Layout.Process
	for rest := r.callers; len(rest) >= callerSize && from != 0; {
		var c bpf.Caller
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&c)), callerSize), rest)
		rest = rest[callerSize:]
		stackEnd := uint64(c.StackLength)
		termsEnd := stackEnd + uint64(c.TermsLength)
		if termsEnd > uint64(len(rest)) || wordAt(c.Head[:], layout.ID) != from {
			break
		}
		stack := erlangStack{
			top:        wordAt(c.Head[:], layout.Stop),
			lower:      chunk{c.Stack, rest[:stackEnd]},
			normalExit: d.target.NormalExit,
		}
		terms := rest[stackEnd:termsEnd]
		rest = rest[termsEnd:]
		spans, missing, complete := stack.walk(d.code, d.chainSpans[:0])
		d.chainSpans = spans
		if !complete {
			break
		}
		first := len(d.chainStacks)
		if i := wordAt(c.Head[:], layout.I); d.code.Contains(i) {
			d.chainStacks = append(d.chainStacks, d.frames.jitFrame(place{i, true}, r.Time).Frame)
		}
		d.chainStacks = d.frames.appendErlang(d.chainStacks, spans, missing, r.Time)
		frames := d.chainStacks[first:len(d.chainStacks):len(d.chainStacks)]
		process, _ := d.people.get(c.Process, c.Head[:], rootOf(frames), beam.Copied{})
		if process == nil {
			break
		}
		call, _ := d.request(stack.lower, spans, terms, r.Time)
		d.chain = append(d.chain, collector.Caller{Process: process, Request: call.Request, RequestType: call.Type, Stack: frames})
		from = call.From
	}
	return d.chain
}

// rootOf returns the function at the root of a stack, which may be recursion that
// was folded: then the frames before the marker are of the same cycle.
func rootOf(stack []*collector.Frame) string {
	for i := len(stack) - 1; i >= 0; i-- {
		if stack[i].Kind != collector.FrameMarker {
			return stack[i].Function
		}
	}
	return ""
}
