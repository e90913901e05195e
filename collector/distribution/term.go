package distribution

// kind is what a term is, as far as it was read.
type kind uint8

// The kinds of terms; termUnknown is one that was not read or not understood.
const (
	termUnknown kind = iota
	termAtom
	termInteger
	termPID
	termReference
	termTuple
	termList
	termFun   // its atom is the module it is of
	termOther // a number, binary, port or map
)

// term is a part of a message, read from a sender's heap or from the wire.
type term struct {
	kind     kind
	atom     string // text of an atom; empty if its name is not known
	number   int64  // of an integer
	pid      uint64 // of a process of this VM
	ref      ref    // of a reference, and of a list that ends in one: [alias | Reference]
	arity    int    // of a tuple
	elements []term // the first ones of a tuple or list
}

// ref is what tells references of one node apart; zero if it is not known.
type ref [3]uint32

// element returns a tuple's element, from 1 on; one that is not there is unknown.
func (t term) element(n int) term {
	if t.kind != termTuple || n < 1 || n > len(t.elements) {
		return term{}
	}
	return t.elements[n-1]
}

// isAtom tells whether a term is the atom with a text.
func (t term) isAtom(text string) bool { return t.kind == termAtom && t.atom == text }

// isTuple tells whether a term is a tuple of this arity.
func (t term) isTuple(arity int) bool { return t.kind == termTuple && t.arity == arity }
