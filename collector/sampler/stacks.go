package sampler

import (
	"encoding/binary"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/gen"
)

// Stacks names the Erlang stacks of processes that were copied at a probe of
// the VM, where they had stored where their stack is. It is used from one
// goroutine.
type Stacks struct {
	*decoder
	spans  []span
	stack  []*collector.Frame
	sample collector.Sample
	caller [1]collector.Caller
}

// NewStacks returns the names of one VM's stacks, independent of any Session.
func NewStacks(target *beam.Target) *Stacks {
	return &Stacks{decoder: &decoder{
		target: target, code: target.Code, behaviours: gen.For(target.Release),
		frames: newFrames(target.Code, nil), threads: newThreads(target), people: newPeople(target),
	}}
}

// Copy is what was copied of a process and its stack. Parts may be missing.
type Copy struct {
	Time    uint64 // nanoseconds of CLOCK_MONOTONIC
	TID     int
	Leaf    uint64 // return address into JIT code of the C function that was called, or 0
	Process uint64 // address of struct process
	Head    []byte // its first HeadSize bytes
	RootAt  uint64 // address of Root
	Root    []byte // the stack next to its root
	TopAt   uint64
	Top     []byte // the stack at its top, if Root does not hold it
	Terms   []byte // what words of Root point to: each the word and the first five there
}

// Sample returns the process, its stack, from the function that called into the
// VM to its root, the request that it handles and who asked, without a stack. It
// is valid until the next call.
func (s *Stacks) Sample(c *Copy) *collector.Sample {
	s.sample = collector.Sample{Time: c.Time, Thread: s.threads.get(c.TID, nil), State: collector.StateBIF}
	s.stack = s.stack[:0]
	if len(c.Head) < beam.HeadSize {
		return &s.sample
	}
	code := s.target.Code
	if code.Contains(c.Leaf) {
		s.stack = append(s.stack, s.frames.jitFrame(place{pc: c.Leaf}, c.Time).Frame)
	}
	walk := erlangStack{
		top:        binary.NativeEndian.Uint64(c.Head[s.target.Layout.Process.Stop:]),
		upper:      chunk{c.TopAt, c.Top},
		lower:      chunk{c.RootAt, c.Root},
		normalExit: s.target.NormalExit,
	}
	root := ""
	if len(c.Root) > 0 {
		spans, missing, complete := walk.walk(code, s.spans[:0])
		s.spans = spans
		s.sample.Truncated = missing >= 0
		s.stack = s.frames.appendErlang(s.stack, spans, missing, c.Time)
		s.sample.Partial = !complete
	} else {
		s.sample.Partial = true
	}
	if s.sample.Partial {
		s.stack = append(s.stack, framePartial)
	} else {
		root = rootOf(s.stack)
	}
	s.sample.Stack = s.stack
	s.sample.Process, _ = s.people.get(c.Process, c.Head, root, beam.Copied{})
	if !s.sample.Partial {
		s.asked(c)
	}
	return &s.sample
}

// asked tells what the process is doing, and for which other one.
func (s *Stacks) asked(c *Copy) {
	call, ok := s.request(chunk{c.RootAt, c.Root}, s.spans, c.Terms, c.Time)
	if !ok {
		return
	}
	s.sample.Request, s.sample.RequestType = call.Request, call.Type
	s.sample.OnBehalfOf = s.people.onBehalfOf(call.From)
	if caller := s.people.byPID(call.From); caller != nil {
		s.caller[0] = collector.Caller{Process: caller}
		s.sample.Callers = s.caller[:]
	}
}
