package beam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Limits of what is believed about atoms.
const (
	maxAtomBytes  = 255 * utf8.UTFMax // MAX_ATOM_SZ_LIMIT (atom.h): 255 characters
	maxAtoms      = 1 << 27           // no emulator can be told to hold more
	maxAtomChain  = 1 << 12           // atoms in one bucket of the hash table
	maxAtomCache  = 1 << 17           // atoms kept here; VMs have 10 000 to 50 000
	segmentShift  = 10                // INDEX_PAGE_SHIFT (index.h, 23 to 27)
	segmentLength = 1 << segmentShift
)

var errAtom = errors.New("not an atom of this VM")

// atomTable reads the VM's atoms. Atoms are never removed, so what was read
// once holds for good.
type atomTable struct {
	memory memory.Reader
	layout *Layout
	at     uint64 // address of erts_atom_table

	mutex    sync.Mutex
	text     map[uint64]string // by index
	segments map[uint64]uint64 // addresses, by index
}

func newAtomTable(m memory.Reader, layout *Layout, at uint64) *atomTable {
	return &atomTable{memory: m, layout: layout, at: at, text: map[uint64]string{}, segments: map[uint64]uint64{}}
}

// Atom returns the text of an atom.
func (t *Target) Atom(term uint64) (string, bool) {
	text, err := t.atoms.lookup(term)
	return text, err == nil
}

// AtomNamed returns the atom with a text, if the VM has it already.
func (t *Target) AtomNamed(text string) (term uint64, ok bool) {
	term, err := t.atoms.find(text)
	return term, err == nil
}

// lookup returns the text of an atom.
func (a *atomTable) lookup(term uint64) (string, error) {
	if !IsAtom(term) {
		return "", errAtom
	}
	index := term >> atomShift
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if text, ok := a.text[index]; ok {
		return text, nil
	}
	text, err := a.read(index)
	if err != nil {
		return "", fmt.Errorf("atom %d: %w", index, err)
	}
	if len(a.text) >= maxAtomCache {
		clear(a.text)
	}
	a.text[index] = text
	return text, nil
}

// read reads the atom with an index from the table.
func (a *atomTable) read(index uint64) (string, error) {
	if index >= maxAtoms {
		return "", errAtom
	}
	segment, err := a.segment(index >> segmentShift)
	if err != nil {
		return "", err
	}
	at, err := memory.Uint64(a.memory, segment+8*(index%segmentLength))
	if err != nil {
		return "", err
	}
	return a.readText(at, index)
}

// segment returns the address of a part of the table that holds 1024 atoms.
func (a *atomTable) segment(n uint64) (uint64, error) {
	if at, ok := a.segments[n]; ok {
		return at, nil
	}
	entries, err := memory.Uint32(a.memory, a.at+uint64(a.layout.AtomTable.Entries))
	if err != nil {
		return 0, err
	}
	// A segment is allocated when the first of its atoms is made.
	if n<<segmentShift >= uint64(entries) {
		return 0, errAtom
	}
	segments, err := memory.Uint64(a.memory, a.at+uint64(a.layout.AtomTable.Segments))
	if err != nil {
		return 0, err
	}
	at, err := memory.Uint64(a.memory, segments+8*n)
	if err != nil {
		return 0, err
	}
	a.segments[n] = at
	return at, nil
}

// readText reads the struct atom at an address and checks that it has an index.
func (a *atomTable) readText(at, index uint64) (string, error) {
	entry, err := a.readEntry(at)
	if err != nil {
		return "", err
	}
	l := &a.layout.Atom
	if uint64(binary.NativeEndian.Uint32(entry[l.Index:])) != index {
		return "", errAtom
	}
	length := binary.NativeEndian.Uint16(entry[l.Length:])
	if length > maxAtomBytes {
		return "", errAtom
	}
	text := make([]byte, length)
	if err := a.memory.Read(text, binary.NativeEndian.Uint64(entry[l.Name:])); err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", errAtom
	}
	return string(text), nil
}

func (a *atomTable) readEntry(at uint64) ([]byte, error) {
	entry := make([]byte, a.layout.Atom.Size)
	return entry, a.memory.Read(entry, at)
}

// find looks an atom up in the table's hash (hash.h: hash_get_slot, 23 to 27).
func (a *atomTable) find(text string) (uint64, error) {
	l := &a.layout.AtomTable
	shift, err := memory.Uint32(a.memory, a.at+uint64(l.Shift))
	if err != nil {
		return 0, err
	}
	buckets, err := memory.Uint64(a.memory, a.at+uint64(l.Buckets))
	if err != nil {
		return 0, err
	}
	hash := atomHash(text)
	slot := hash ^ hash>>shift
	slot = 11400714819323198485 * slot >> shift // 2^64 divided by the golden ratio
	at, err := memory.Uint64(a.memory, buckets+8*slot)
	for range maxAtomChain {
		if err != nil || at == 0 {
			break
		}
		var entry []byte
		if entry, err = a.readEntry(at); err != nil {
			break
		}
		if binary.NativeEndian.Uint64(entry[a.layout.Atom.Hash:]) == hash {
			index := uint64(binary.NativeEndian.Uint32(entry[a.layout.Atom.Index:]))
			if found, err := a.readText(at, index); err == nil && found == text {
				return index<<atomShift | tagAtom, nil
			}
		}
		at = binary.NativeEndian.Uint64(entry[a.layout.Atom.Next:])
	}
	return 0, errors.Join(errAtom, err)
}

// atomHash is atom_hash (atom.c, 23 to 27): the hash of P. J. Weinberger over
// characters of Latin-1 as one byte, and over the bytes of all others.
func atomHash(text string) uint64 {
	var hash uint64
	for i := 0; i < len(text); i++ {
		c := text[i]
		if i+1 < len(text) && c&0xfe == 0xc2 && text[i+1]&0xc0 == 0x80 {
			i++
			c = c<<6 | text[i]&0x3f
		}
		hash = hash<<4 + uint64(c)
		if high := hash & 0xf0000000; high != 0 {
			hash ^= high >> 24
			hash ^= high
		}
	}
	return hash
}
