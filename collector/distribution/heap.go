package distribution

import (
	"encoding/binary"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/beam"
)

// Tags of terms on the heap (erts/emulator/beam/erl_term.h, OTP 23 to 28).
const (
	primaryMask  = 3
	primaryList  = 1
	primaryBoxed = 2

	immediateMask = 0xf
	smallTag      = 0xf
	nilTerm       = 0x3b

	headerMask      = 0x3f
	headerTuple     = 0
	headerReference = 0x10
	headerOtherPID  = 0x30
	headerOtherRef  = 0x38
)

// heapTermSize is the size of one copied term: the term and its words.
const heapTermSize = 8 * (1 + heapWords)

// heapWords is how many words of a tuple are copied, its header included.
const heapWords = len(bpf.HeapTerm{}.Words)

// heapTerms reads the terms that the kernel side copied from a sender's heap.
type heapTerms struct {
	bytes []byte
	atom  func(uint64) (string, bool)
	left  int // terms that may still be read
}

// words returns what a term points to.
func (h *heapTerms) words(word uint64) []byte {
	for at := 0; at+heapTermSize <= len(h.bytes); at += heapTermSize {
		if binary.NativeEndian.Uint64(h.bytes[at:]) == word {
			return h.bytes[at+8 : at+heapTermSize]
		}
	}
	return nil
}

// term reads a term and what is in it as far as it was copied.
func (h *heapTerms) term(word uint64, depth int) term {
	h.left--
	if h.left < 0 || depth > maxDepth {
		return term{}
	}
	switch {
	case beam.IsAtom(word):
		text, _ := h.atom(word)
		return term{kind: termAtom, atom: text}
	case beam.IsPID(word):
		return term{kind: termPID, pid: word}
	case beam.IsPort(word):
		return term{kind: termOther}
	case word&immediateMask == smallTag:
		return term{kind: termInteger, number: int64(word) >> 4}
	case word == nilTerm:
		return term{kind: termList}
	case word&primaryMask == primaryList:
		return h.list(word, depth)
	case word&primaryMask == primaryBoxed:
		return h.boxed(word, depth)
	}
	return term{}
}

// list reads the first elements of a list.
func (h *heapTerms) list(word uint64, depth int) term {
	t := term{kind: termList}
	for len(t.elements) < maxElements && word&primaryMask == primaryList {
		cell := h.words(word)
		if cell == nil {
			break
		}
		t.elements = append(t.elements, h.term(binary.NativeEndian.Uint64(cell), depth+1))
		word = binary.NativeEndian.Uint64(cell[8:])
	}
	if word&primaryMask == primaryBoxed {
		t.ref = h.term(word, depth+1).ref
	}
	return t
}

// boxed reads a tuple, and tells references and pids of other nodes; of others
// nothing was copied.
func (h *heapTerms) boxed(word uint64, depth int) term {
	words := h.words(word)
	if words == nil {
		return term{}
	}
	header := binary.NativeEndian.Uint64(words)
	switch header & headerMask {
	case headerReference, headerOtherRef:
		return reference(words, header&headerMask == headerReference)
	case headerOtherPID:
		return term{kind: termPID}
	case headerTuple:
	default:
		return term{}
	}
	if header>>6 > maxTupleArity {
		return term{}
	}
	t := term{kind: termTuple, arity: int(header >> 6)}
	for n := 1; n < heapWords && n <= t.arity; n++ {
		t.elements = append(t.elements, h.term(binary.NativeEndian.Uint64(words[8*n:]), depth+1))
	}
	return t
}

// ordinaryRef is ERTS_ORDINARY_REF_MARKER; references of another kind have
// something else there.
const ordinaryRef = ^uint32(0)

// reference reads ErtsORefThing or ErtsPRefThing, whose numbers are behind a
// marker, or ExternalThing, where they are behind their count (erl_term.h, 64 bits).
func reference(words []byte, own bool) term {
	t := term{kind: termReference}
	number := func(n int) uint32 { return binary.NativeEndian.Uint32(words[4*n:]) }
	first := 3 // of 32 bits, behind header and marker
	if !own {
		first = 7 // behind header, node, next and count
		if count := number(6); count < uint32(len(t.ref)) {
			return t
		}
	} else if number(2) != ordinaryRef {
		return t
	}
	for i := range t.ref {
		t.ref[i] = number(first + i)
	}
	return t
}

// maxTupleArity is MAX_ARITYVAL of erl_term.h.
const maxTupleArity = 1<<24 - 1
