package distribution

import (
	"encoding/binary"
	"math"
)

// Limits of what is read of a message. Its head alone is there, and it comes
// from another machine.
const (
	maxTerms    = 512 // in all
	maxDepth    = 16
	maxElements = 16 // of a tuple or list, those kept
)

// Tags of the External Term Format (erts/emulator/beam/external.h, OTP 23 to 28).
const (
	tagVersion       = 131
	tagCachedAtom    = 82
	tagSmallInteger  = 97
	tagInteger       = 98
	tagFloat         = 99
	tagNewFloat      = 70
	tagSmallTuple    = 104
	tagLargeTuple    = 105
	tagNil           = 106
	tagString        = 107
	tagList          = 108
	tagBinary        = 109
	tagBitBinary     = 77
	tagSmallBig      = 110
	tagLargeBig      = 111
	tagAtom          = 100
	tagSmallAtom     = 115
	tagAtomUTF8      = 118
	tagSmallAtomUTF8 = 119
	tagReference     = 101
	tagNewReference  = 114
	tagNewerRef      = 90
	tagPort          = 102
	tagNewPort       = 89
	tagV4Port        = 120
	tagPID           = 103
	tagNewPID        = 88
	tagMap           = 116
	tagFun           = 112
	tagExport        = 113
)

// externalTerms reads terms in the External Term Format. What comes after the
// end of the data, or after something not understood, is unknown.
type externalTerms struct {
	data  []byte
	atoms []string // those named by number
	left  int      // terms that may still be read
	bad   bool     // at the end

	// ownPID returns the pid of a process of this VM, 0 if it is another node's.
	ownPID func(node string, number, serial uint32) uint64
}

// next reads a term.
func (e *externalTerms) next() term { return e.term(0) }

// take returns n bytes, nil if there are not so many.
func (e *externalTerms) take(n int) []byte {
	if e.bad || n < 0 || n > len(e.data) {
		e.bad = true
		return nil
	}
	b := e.data[:n:n]
	e.data = e.data[n:]
	return b
}

// integer reads an unsigned integer of 1, 2 or 4 bytes.
func (e *externalTerms) integer(size int) int {
	b := e.take(size)
	switch {
	case b == nil:
		return 0
	case size == 1:
		return int(b[0])
	case size == 2:
		return int(binary.BigEndian.Uint16(b))
	}
	return int(binary.BigEndian.Uint32(b))
}

// other skips n bytes of a term that is of no interest.
func (e *externalTerms) other(n int) term {
	if e.take(n) == nil {
		return term{}
	}
	return term{kind: termOther}
}

func (e *externalTerms) term(depth int) term {
	tag := e.take(1)
	e.left--
	if tag == nil || depth > maxDepth || e.left < 0 {
		e.bad = true
		return term{}
	}
	switch tag[0] {
	case tagVersion: // between control message and message, without header
		return e.term(depth + 1)
	case tagCachedAtom:
		return e.cachedAtom()
	case tagSmallAtom, tagSmallAtomUTF8:
		return e.atom(1, tag[0] == tagSmallAtom)
	case tagAtom, tagAtomUTF8:
		return e.atom(2, tag[0] == tagAtom)
	case tagSmallInteger:
		return e.number(int64(e.integer(1)))
	case tagInteger:
		return e.number(int64(int32(e.integer(4))))
	case tagSmallTuple:
		return e.tuple(e.integer(1), depth)
	case tagLargeTuple:
		return e.tuple(e.integer(4), depth)
	case tagNil:
		return term{kind: termList}
	case tagList:
		return e.list(e.integer(4), depth)
	case tagPID, tagNewPID:
		return e.process(depth, tag[0] == tagNewPID)
	case tagReference, tagNewReference, tagNewerRef:
		return e.reference(tag[0], depth)
	}
	return e.rest(tag[0], depth)
}

// rest skips a term of one of the kinds that are of no interest.
func (e *externalTerms) rest(tag byte, depth int) term {
	switch tag {
	case tagFloat:
		return e.other(31)
	case tagNewFloat:
		return e.other(8)
	case tagString:
		return e.other(e.integer(2))
	case tagBinary:
		return e.other(e.integer(4))
	case tagBitBinary:
		return e.other(e.integer(4) + 1)
	case tagSmallBig:
		return e.other(e.integer(1) + 1)
	case tagLargeBig:
		return e.other(e.integer(4) + 1)
	case tagPort, tagNewPort, tagV4Port:
		e.term(depth + 1)
		return e.other(map[byte]int{tagPort: 5, tagNewPort: 8, tagV4Port: 12}[tag])
	case tagMap:
		for n := e.integer(4); n > 0 && !e.bad; n-- {
			e.term(depth + 1)
			e.term(depth + 1)
		}
		return e.other(0)
	case tagFun:
		return e.fun(depth)
	case tagExport:
		for range 3 {
			e.term(depth + 1)
		}
		return e.other(0)
	}
	e.bad = true
	return term{}
}

// fun reads the module of a fun: behind its size, which is that of all behind
// the tag, stand arity, unique value, index and number of free variables.
func (e *externalTerms) fun(depth int) term {
	size := e.integer(4) - 4
	e.take(1 + 16 + 4 + 4)
	behind := len(e.data)
	module := e.term(depth + 1)
	if e.bad {
		return term{}
	}
	e.take(size - (1 + 16 + 4 + 4) - (behind - len(e.data)))
	return term{kind: termFun, atom: module.atom}
}

func (e *externalTerms) number(n int64) term {
	if e.bad {
		return term{}
	}
	return term{kind: termInteger, number: n}
}

func (e *externalTerms) cachedAtom() term {
	n := e.integer(1)
	switch {
	case e.bad:
		return term{}
	case n >= len(e.atoms):
		return term{kind: termAtom}
	}
	return term{kind: termAtom, atom: e.atoms[n]}
}

func (e *externalTerms) atom(lengthSize int, latin1 bool) term {
	text := e.take(e.integer(lengthSize))
	if e.bad {
		return term{}
	}
	if !latin1 {
		return term{kind: termAtom, atom: string(text)}
	}
	runes := make([]rune, len(text))
	for i, b := range text {
		runes[i] = rune(b)
	}
	return term{kind: termAtom, atom: string(runes)}
}

func (e *externalTerms) tuple(arity, depth int) term {
	if e.bad {
		return term{}
	}
	t := term{kind: termTuple, arity: arity}
	for n := 0; n < arity && !e.bad; n++ {
		if element := e.term(depth + 1); n < maxElements {
			t.elements = append(t.elements, element)
		}
	}
	return t
}

func (e *externalTerms) list(length, depth int) term {
	if e.bad {
		return term{}
	}
	t := term{kind: termList}
	for n := 0; n < length && !e.bad; n++ {
		if element := e.term(depth + 1); n < maxElements {
			t.elements = append(t.elements, element)
		}
	}
	if !e.bad {
		t.ref = e.term(depth + 1).ref // of the tail
	}
	return t
}

// process reads node, number, serial number and creation.
func (e *externalTerms) process(depth int, wide bool) term {
	node := e.term(depth + 1)
	number, serial := e.integer(4), e.integer(4)
	creation := 1
	if wide {
		creation = 4
	}
	if e.take(creation); e.bad {
		return term{}
	}
	t := term{kind: termPID}
	if e.ownPID != nil && node.atom != "" {
		t.pid = e.ownPID(node.atom, uint32(number), uint32(serial))
	}
	return t
}

// reference reads node, creation and the words that tell references apart.
func (e *externalTerms) reference(tag byte, depth int) term {
	length := 1
	if tag != tagReference {
		length = e.integer(2)
	}
	e.term(depth + 1) // node
	if tag == tagReference {
		return referenceOr(e.other(4 + 1))
	}
	creation := 1
	if tag == tagNewerRef {
		creation = 4
	}
	e.take(creation)
	if length > math.MaxUint8 {
		e.bad = true
	}
	words := e.take(4 * length)
	if e.bad {
		return term{}
	}
	t := term{kind: termReference}
	for i := 0; i < len(t.ref) && 4*i+4 <= len(words); i++ {
		t.ref[i] = binary.BigEndian.Uint32(words[4*i:])
	}
	return t
}

func referenceOr(t term) term {
	if t.kind == termOther {
		t.kind = termReference
	}
	return t
}
