package sampler

import (
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/beamprof/beamprof/collector/beam"
)

// Tags of terms (erts/emulator/beam/erl_term.h, OTP 23 to 28).
const (
	tagList   = 1
	tagBoxed  = 2
	tagPID    = 0x3  // low four bits of the pid of a process of this node
	maskPID   = 0xf  //
	headerPID = 0x30 // low six bits of the header of an external pid
	maskHead  = 0x3f
)

// maxTupleArity is the VM's own limit (MAX_ARITYVAL in erl_term.h is larger).
const maxTupleArity = 1<<24 - 1

// termSize is the size of one copied term: the term and five words.
const termSize = 6 * 8

// copiedTerms are the terms that the kernel side copied with a sample.
type copiedTerms struct {
	target *beam.Target
	bytes  []byte
	words  [4]uint64
}

// find returns the words a term points to.
func (c *copiedTerms) find(term uint64) []byte {
	for at := 0; at+termSize <= len(c.bytes); at += termSize {
		if binary.LittleEndian.Uint64(c.bytes[at:]) == term {
			return c.bytes[at+8 : at+termSize]
		}
	}
	return nil
}

// Tuple implements gen.Terms.
func (c *copiedTerms) Tuple(term uint64) (arity int, elements []uint64, ok bool) {
	if term&primaryTag != tagBoxed {
		return 0, nil, false
	}
	words := c.find(term)
	if words == nil {
		return 0, nil, false
	}
	header := binary.LittleEndian.Uint64(words)
	if header&maskHead != 0 || header < 1<<6 || header > maxTupleArity<<6 {
		return 0, nil, false
	}
	arity = int(header >> 6)
	out := c.words[:min(arity, len(c.words))]
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(words[8+8*i:])
	}
	// The caller may ask for another tuple while it holds this one.
	return arity, append([]uint64(nil), out...), true
}

// Head implements gen.Terms.
func (c *copiedTerms) Head(term uint64) (uint64, bool) {
	if term&primaryTag != tagList {
		return 0, false
	}
	words := c.find(term)
	if words == nil {
		return 0, false
	}
	return binary.LittleEndian.Uint64(words), true
}

// Atom implements gen.Terms.
func (c *copiedTerms) Atom(term uint64) (string, bool) { return c.target.Atom(term) }

// Process implements gen.Terms.
func (c *copiedTerms) Process(term uint64) bool {
	return term&maskPID == tagPID || term&primaryTag == tagBoxed
}

// label returns the text of an atom for people: Elixir's modules as Elixir writes
// them, and without what does not print and could steer a terminal.
func label(atom string) string {
	if rest, ok := strings.CutPrefix(atom, "Elixir."); ok && rest != "" {
		atom = rest
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, atom)
}
