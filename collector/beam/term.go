package beam

// Terms: a word is a value itself or a tagged pointer, told apart by its
// lowest bits. The same in all releases from 23 to 27 (erl_term.h).
const (
	tagMask  = 0x3 // primary tag
	tagList  = 0x1 // pointer to a cons cell: head, tail
	tagBoxed = 0x2 // pointer to a header and what it describes

	immediateMask = 0xf
	tagPID        = 0x3
	tagPort       = 0x7
	tagSmall      = 0xf

	atomMask  = 0x3f
	tagAtom   = 0x0b
	atomShift = 6

	termNil = 0x3b // the empty list

	headerMask  = 0x3f
	headerTuple = 0x00
	headerShift = 6 // the tuple's arity is above

	// pointerMask takes the tags off a pointer: heaps and literals are aligned to words.
	pointerMask = ^uint64(7)
)

// IsPID tells whether a term is the pid of one of the VM's own processes.
func IsPID(term uint64) bool { return term&immediateMask == tagPID }

// invalidPID is the pid of a Process that is in no table (ERTS_INVALID_PID, erl_ptab.h
// and erl_process.h of OTP 25).
const invalidPID = 0xffff_fff0 | tagPID

// IsPort tells whether a term is one of the VM's own ports.
func IsPort(term uint64) bool { return term&immediateMask == tagPort }

// IsAtom tells whether a term is an atom.
func IsAtom(term uint64) bool { return term&atomMask == tagAtom }

// small returns the value of a small integer that is not negative.
func small(term uint64) (uint64, bool) {
	return term >> 4, term&immediateMask == tagSmall && int64(term) >= 0
}

// list returns the address of a term's cons cell.
func list(term uint64) (addr uint64, ok bool) { return term & pointerMask, term&tagMask == tagList }

// boxed returns the address of a term's header.
func boxed(term uint64) (addr uint64, ok bool) { return term & pointerMask, term&tagMask == tagBoxed }

// tupleArity returns the arity a header word gives a tuple.
func tupleArity(header uint64) (arity uint64, ok bool) {
	return header >> headerShift, header&headerMask == headerTuple
}
