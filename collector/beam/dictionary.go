package beam

import (
	"encoding/binary"
	"errors"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// errTorn says that a structure does not make sense: it was changed, moved by
// a garbage collection or freed while we looked, or never was one.
var errTorn = errors.New("not consistent")

// errAbsent says that a dictionary has no such key.
var errAbsent = errors.New("not in the process dictionary")

const (
	maxDictionarySlots = 1 << 26 // the VM's own limit is of this order (erl_process_dict.c: next_array_size)
	maxDictionaryChain = 64      // entries in one slot
	maxArity           = 255
)

// dictionaryValue returns the value of a key that is an atom in the process
// dictionary (struct proc_dict) at an address. The process may be running: the
// caller must check the value, and may try again after errTorn.
func dictionaryValue(m memory.Reader, l *DictionaryLayout, at, key uint64) (uint64, error) {
	header := make([]byte, max(l.SizeMask, l.UsedSlots)+4)
	if err := m.Read(header, at); err != nil {
		return 0, err
	}
	mask := binary.NativeEndian.Uint32(header[l.SizeMask:])
	used := binary.NativeEndian.Uint32(header[l.UsedSlots:])
	// Linear hashing: the slots in use are more than half of those the mask can name.
	if mask >= maxDictionarySlots || mask&(mask+1) != 0 || used > mask+1 || used < mask>>1+1 {
		return 0, errTorn
	}
	slot := uint32(key>>atomShift) & mask // MAKE_HASH of an atom is its index
	if slot >= used {
		slot &= mask >> 1
	}
	term, err := memory.Uint64(m, at+uint64(l.Slots)+8*uint64(slot))
	if err != nil {
		return 0, err
	}
	if term == termNil {
		return 0, errAbsent
	}
	if _, ok := boxed(term); ok {
		value, err := pairValue(m, term, key)
		return value, err
	}
	for range maxDictionaryChain {
		cell, ok := list(term)
		if !ok {
			break
		}
		var words [2]uint64
		if err := memory.Words(m, words[:], cell); err != nil {
			return 0, err
		}
		value, err := pairValue(m, words[0], key)
		if !errors.Is(err, errAbsent) {
			return value, err
		}
		term = words[1]
	}
	if term == termNil {
		return 0, errAbsent
	}
	return 0, errTorn
}

// dictionaryMFA reads a value that is a function. A collection lets the dictionary
// point to where a term will be before all of it is there, and frees where it was,
// which two collections later may be its place again: so all of it is read twice.
func dictionaryMFA(m memory.Reader, l *DictionaryLayout, at, key uint64) (mfa, error) {
	var terms [2]uint64
	var functions [2]mfa
	for i := range terms {
		var err error
		if terms[i], err = dictionaryValue(m, l, at, key); err != nil {
			return mfa{}, err
		}
		if functions[i], err = readMFA(m, terms[i]); err != nil {
			return mfa{}, err
		}
	}
	if terms[0] != terms[1] || functions[0] != functions[1] {
		return mfa{}, errTorn
	}
	return functions[0], nil
}

// pairValue returns the value of a tuple {Key,Value} if it has the key.
func pairValue(m memory.Reader, term, key uint64) (uint64, error) {
	var words [3]uint64
	if err := readTuple(m, term, words[:]); err != nil {
		return 0, err
	}
	if words[1] != key {
		return 0, errAbsent
	}
	return words[2], nil
}

// readTuple reads a tuple and its header, which must say the arity len(words)-1.
func readTuple(m memory.Reader, term uint64, words []uint64) error {
	at, ok := boxed(term)
	if !ok {
		return errTorn
	}
	if err := memory.Words(m, words, at); err != nil {
		return err
	}
	if arity, ok := tupleArity(words[0]); !ok || arity != uint64(len(words)-1) {
		return errTorn
	}
	return nil
}

// mfa is a function: two atoms and an arity.
type mfa struct {
	module, function uint64
	arity            uint64
}

// readMFA reads a term {Module,Function,Arity}, or {Module,Function,Arguments}
// as some libraries store it. It checks that the atoms look like atoms.
func readMFA(m memory.Reader, term uint64) (mfa, error) {
	var words [4]uint64
	if err := readTuple(m, term, words[:]); err != nil {
		return mfa{}, err
	}
	return toMFA(m, [3]uint64(words[1:]))
}

// toMFA makes a function of the three terms of a tuple.
func toMFA(m memory.Reader, terms [3]uint64) (mfa, error) {
	if !IsAtom(terms[0]) || !IsAtom(terms[1]) {
		return mfa{}, errTorn
	}
	f := mfa{module: terms[0], function: terms[1]}
	if arity, ok := small(terms[2]); ok && arity <= maxArity {
		f.arity = arity
		return f, nil
	}
	length, err := listLength(m, terms[2])
	f.arity = length
	return f, err
}

// listLength counts the elements of a list of at most maxArity elements.
func listLength(m memory.Reader, term uint64) (uint64, error) {
	for length := uint64(0); length <= maxArity; length++ {
		if term == termNil {
			return length, nil
		}
		cell, ok := list(term)
		if !ok {
			break
		}
		tail, err := memory.Uint64(m, cell+8)
		if err != nil {
			return 0, err
		}
		term = tail
	}
	return 0, errTorn
}
