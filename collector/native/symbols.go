package native

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"
	"sort"
)

// symbolTable holds an object's functions, 12 bytes each. Names stay in the
// file until asked for.
type symbolTable struct {
	object  *object
	base    uint64 // vaddr that starts are relative to
	entries []symbolEntry
	longest uint32               // size of the largest function, bytes
	names   map[[2]uint32]string // by start and size
}

// symbolEntry is one function: aliases of it are entries of their own.
type symbolEntry struct {
	start, size uint32 // less base; bytes, 0 if not known
	name        uint32 // which symbol: number<<1 | section
}

const (
	// symbolSize is sizeof(Elf64_Sym).
	symbolSize = 24
	// maxSymbols bounds the functions of one object, at 12 MiB.
	maxSymbols = 1 << 20
	// maxAliases bounds the names of one function that are compared.
	maxAliases = 64
	// maxName bounds a symbol's name; C++ makes names of some KiB.
	maxName = 8 << 10
)

// rawSymbol is an entry of .symtab or .dynsym: System V gABI, chapter 4.
type rawSymbol struct {
	name        uint32
	info        uint8
	section     uint16
	value, size uint64
}

func parseSymbol(b []byte) rawSymbol {
	return rawSymbol{
		name: binary.LittleEndian.Uint32(b), info: b[4], section: binary.LittleEndian.Uint16(b[6:]),
		value: binary.LittleEndian.Uint64(b[8:]), size: binary.LittleEndian.Uint64(b[16:]),
	}
}

func (r rawSymbol) defined() bool {
	return r.name != 0 && r.section != uint16(elf.SHN_UNDEF) && r.section != uint16(elf.SHN_ABS)
}

// isCode tells functions, and labels of assembler code, from data.
func (r rawSymbol) isCode() bool {
	t := elf.ST_TYPE(r.info)
	if !r.defined() {
		return false
	}
	// Local labels without a type or size mark places inside of functions
	// (arm64: $x and $d, where code and data begin).
	label := t == elf.STT_NOTYPE && (r.size != 0 || elf.ST_BIND(r.info) != elf.STB_LOCAL)
	return t == elf.STT_FUNC || t == elf.STT_GNU_IFUNC || label
}

// each calls f for the symbols of a section, with their numbers, until f returns false.
func (o *object) eachSymbol(section symbolSection, f func(number uint32, s rawSymbol) bool) {
	const chunk = 2048
	buf := make([]byte, min(section.size, chunk*symbolSize))
	for number := uint64(0); number < section.size/symbolSize; number += chunk {
		n, _ := o.reader.ReadAt(buf[:min(uint64(len(buf)), section.size-number*symbolSize)], int64(section.offset+number*symbolSize))
		for i := 0; i+symbolSize <= n; i += symbolSize {
			if !f(uint32(number)+uint32(i/symbolSize), parseSymbol(buf[i:])) {
				return
			}
		}
		if n < len(buf) {
			return
		}
	}
}

// openSymbols reads the functions of .symtab and .dynsym.
func openSymbols(o *object) *symbolTable {
	t := &symbolTable{object: o, names: map[[2]uint32]string{}}
	if len(o.segments) > 0 {
		t.base = slices.MinFunc(o.segments, func(a, b elf.ProgHeader) int { return cmp.Compare(a.Vaddr, b.Vaddr) }).Vaddr
	}
	for which, section := range o.tables {
		o.eachSymbol(section, func(number uint32, s rawSymbol) bool {
			start := s.value - t.base
			if s.isCode() && start>>32 == 0 && s.size>>32 == 0 && number>>31 == 0 && o.executable(s.value) {
				t.entries = append(t.entries, symbolEntry{uint32(start), uint32(s.size), number<<1 | uint32(which)})
			}
			return len(t.entries) < maxSymbols
		})
	}
	slices.SortFunc(t.entries, func(a, b symbolEntry) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.size, b.size), cmp.Compare(a.name, b.name))
	})
	t.entries = slices.Clip(t.entries)
	for _, e := range t.entries {
		t.longest = max(t.longest, e.size)
	}
	return t
}

// maxNested bounds the walk down over functions that end before the address
// wanted, to one that began earlier and encloses it.
const maxNested = 32

// find returns the function that encloses a vaddr. A function without a size,
// as assembler code has them, is taken if enclosed agrees; it is asked for the
// vaddr of the function.
func (t *symbolTable) find(vaddr uint64, enclosed func(start uint64) bool) (symbolEntry, bool) {
	wanted := vaddr - t.base
	if vaddr < t.base || wanted>>32 != 0 {
		return symbolEntry{}, false
	}
	nearest := sort.Search(len(t.entries), func(i int) bool { return uint64(t.entries[i].start) > wanted }) - 1
	for i := nearest; i >= 0 && i > nearest-maxNested; i-- {
		into := wanted - uint64(t.entries[i].start)
		if into < uint64(t.entries[i].size) {
			return t.entries[i], true
		}
		if into >= uint64(t.longest) {
			break
		}
	}
	if nearest < 0 {
		return symbolEntry{}, false
	}
	// Sizes are sorted, so the first entry with this start has none if any has none.
	start := t.entries[nearest].start
	first := sort.Search(nearest, func(i int) bool { return t.entries[i].start >= start })
	e := t.entries[first]
	if e.size == 0 && enclosed(t.base+uint64(start)) {
		return e, true
	}
	return symbolEntry{}, false
}

// name returns the best of the names that a function has.
func (t *symbolTable) name(e symbolEntry) string {
	key := [2]uint32{e.start, e.size}
	if name, ok := t.names[key]; ok {
		return name
	}
	first := sort.Search(len(t.entries), func(i int) bool { return t.entries[i].start >= e.start })
	var best symbolName
	for i := first; i < len(t.entries) && i < first+maxAliases && t.entries[i].start == e.start; i++ {
		if t.entries[i].size != e.size {
			continue // a label at the function's start, or the function around
		}
		if n := t.read(t.entries[i]); best.text == "" || n.better(best) {
			best = n
		}
	}
	name := demangled(best.text)
	t.names[key] = name
	return name
}

// read reads one symbol's name from the file.
func (t *symbolTable) read(e symbolEntry) symbolName {
	section := t.object.tables[e.name&1]
	var raw [symbolSize]byte
	if n, _ := t.object.reader.ReadAt(raw[:], int64(section.offset+uint64(e.name>>1)*symbolSize)); n < symbolSize {
		return symbolName{}
	}
	s := parseSymbol(raw[:])
	n := symbolName{text: t.object.string(section, s.name), rank: rankLocal}
	switch elf.ST_BIND(s.info) {
	case elf.STB_GLOBAL, elf.STB_LOOS: // the second is STB_GNU_UNIQUE
		n.rank = rankGlobal
	case elf.STB_WEAK:
		n.rank = rankWeak
	}
	if elf.ST_TYPE(s.info) == elf.STT_NOTYPE {
		n.rank = rankLabel
	}
	return n
}

// maxNames bounds the names that lookup reads.
const maxNames = 64 << 20

// lookup returns the vaddr of a function or variable by name.
func (o *object) lookup(name string) (vaddr uint64, ok bool) {
	for _, section := range o.tables {
		// ReadAll grows with what the file has, not with what its header says.
		size := int64(min(section.namesSize, maxNames))
		names, _ := io.ReadAll(io.NewSectionReader(o.reader, int64(section.names), size))
		o.eachSymbol(section, func(_ uint32, s rawSymbol) bool {
			if s.defined() && uint64(s.name) < uint64(len(names)) && elf.ST_TYPE(s.info) != elf.STT_TLS {
				rest, found := bytes.CutPrefix(names[s.name:], []byte(name))
				if found && len(rest) > 0 && (rest[0] == 0 || rest[0] == '@') {
					vaddr, ok = s.value, true
				}
			}
			return !ok
		})
		if ok {
			break
		}
	}
	return vaddr, ok
}

// string reads a string of a symbol section's names, without the version that
// .symtab appends ("memcpy@@GLIBC_2.14").
func (o *object) string(section symbolSection, offset uint32) string {
	for size := uint64(128); ; size *= 8 {
		if uint64(offset) >= section.namesSize {
			return ""
		}
		buf := make([]byte, min(size, section.namesSize-uint64(offset)))
		n, _ := o.reader.ReadAt(buf, int64(section.names+uint64(offset)))
		text, _, whole := bytes.Cut(buf[:n], []byte{0})
		if whole || size >= maxName || n < len(buf) {
			text, _, _ = bytes.Cut(text, []byte{'@'})
			return string(text)
		}
	}
}
