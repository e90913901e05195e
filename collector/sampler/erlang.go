package sampler

import (
	"encoding/binary"

	"github.com/beamprof/beamprof/collector"
)

// A word of the Erlang stack with these low bits clear is no term: it is 0 (a
// dead slot), a saved frame pointer, or a return address if it lies in JIT code
// (TAG_PRIMARY_HEADER in erts/emulator/beam/erl_term.h).
const primaryTag = 3

// chunk is a copy of a piece of the target's memory.
type chunk struct {
	base  uint64
	bytes []byte
}

func (c chunk) end() uint64 { return c.base + uint64(len(c.bytes)) }

// word returns the 64-bit word at an address inside the chunk.
func (c chunk) word(at uint64) uint64 {
	return binary.LittleEndian.Uint64(c.bytes[at-c.base:])
}

// contains tells whether the word at an address was copied.
func (c chunk) contains(at uint64) bool {
	return at >= c.base && at+8 <= c.end() && at+8 > at
}

// erlangStack is an Erlang stack from its top (lowest address) to its root, as
// far as it was copied.
type erlangStack struct {
	top        uint64 // the stack pointer E
	upper      chunk  // from the top on, if the lower one does not begin there
	lower      chunk  // to the root
	normalExit uint64 // the return address at the root of every process
}

// span is one frame of an Erlang stack: where its return address was and where
// the next one is. The words between them are its Y registers.
type span struct {
	pc         uint64
	from, next uint64
}

// walk finds the return addresses, leaf first. missing is the index in spans
// before which frames are missing because the stack was deeper than what was
// copied, or -1. complete tells whether the walk reached the process's root.
func (s *erlangStack) walk(code codeTable, spans []span) (found []span, missing int, complete bool) {
	missing = -1
	from := s.top
	if !s.lower.contains(s.top) && s.top != s.lower.end() {
		if s.upper.contains(s.top) {
			if spans, complete = scan(s.upper, s.top, s.normalExit, code, spans); complete {
				return joined(spans), -1, true
			}
		}
		if s.upper.end() != s.lower.base || len(s.upper.bytes) == 0 {
			missing = len(spans)
		}
		from = s.lower.base
	}
	spans, complete = scan(s.lower, from, s.normalExit, code, spans)
	if s.top == s.lower.end() { // an empty stack: the root returned already
		complete = true
	}
	return joined(spans), missing, complete
}

// joined tells each frame where the next one begins.
func joined(spans []span) []span {
	for i := range spans {
		if i+1 < len(spans) {
			spans[i].next = spans[i+1].from
		}
	}
	return spans
}

// scan appends the return addresses in a chunk from an address on. It ends at
// the root, and then reports true.
func scan(c chunk, from, root uint64, code codeTable, spans []span) ([]span, bool) {
	from = (from + 7) &^ 7
	if from < c.base {
		return spans, false
	}
	for at := from; c.contains(at); at += 8 {
		word := c.word(at)
		if word&primaryTag != 0 || word == 0 {
			continue
		}
		if word == root {
			if n := len(spans); n > 0 {
				spans[n-1].next = at
			}
			return spans, true
		}
		// A call stands before where it returns to. Code that begins there has none:
		// modules begin with a header that other things point to.
		if code.Contains(word - 1) {
			spans = append(spans, span{pc: word, from: at})
		}
	}
	return spans, false
}

// appendErlang appends the frames of the spans, leaf first, and folds recursion.
// A marker stands where frames are missing, unless it is recursion that goes on
// behind them: then its own marker stands for them, too.
func (f *frames) appendErlang(stack []*collector.Frame, spans []span, missing int, at uint64) []*collector.Frame {
	first := len(stack)
	for _, s := range spans {
		stack = append(stack, f.jitFrame(place{pc: s.pc}, at).Frame)
	}
	found := stack[first:]
	if missing < 0 {
		return stack[:first+len(fold(found, f.foldedFrame))]
	}
	if skip, ok := goesOn(found[:missing], found[missing:]); ok {
		found = append(found[:missing], found[missing+skip:]...)
		return stack[:first+len(fold(found, f.foldedFrame))]
	}
	lower := append([]*collector.Frame(nil), found[missing:]...)
	stack = stack[:first+len(fold(found[:missing], f.foldedFrame))]
	stack = append(stack, frameTruncated)
	return append(stack, fold(lower, f.foldedFrame)...)
}
