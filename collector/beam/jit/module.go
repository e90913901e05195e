package jit

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// module is the code of one symfile: a module, or the VM's global fragments.
// It does not change once it is in the index.
type module struct {
	life    *life
	name    string // printable
	base    uint64
	symfile string      // as the VM has it, all lengths checked
	ranges  []codeRange // by start; none is empty
	// counts as the VM has them, with empty ranges.
	rangeCount, lineCount int
	// extents are the addresses that ranges cover: start, end, start, ...
	extents []uint64
}

// life is when a module was registered, in nanoseconds of CLOCK_MONOTONIC.
type life struct {
	after uint64        // it was not yet there at this time
	since atomic.Uint64 // it was there at this time; 0 if from the beginning
	until atomic.Uint64 // it was gone at this time; 0 if it is there
}

// codeRange is a struct range_info. Addresses are relative to the module's base.
type codeRange struct {
	start, end uint32
	at         uint32 // where it is in the symfile
}

// finish prepares the ranges for lookup.
func (m *module) finish() {
	m.rangeCount = len(m.ranges)
	m.ranges = slices.DeleteFunc(m.ranges, func(r codeRange) bool { return r.start == r.end })
	byAddress := func(a, b codeRange) int { return cmp.Compare(a.start, b.start) }
	if !slices.IsSortedFunc(m.ranges, byAddress) {
		slices.SortStableFunc(m.ranges, byAddress)
	}
	for _, r := range m.ranges {
		start, end := m.base+uint64(r.start), m.base+uint64(r.end)
		if n := len(m.extents); n > 0 && start <= m.extents[n-1] {
			m.extents[n-1] = max(end, m.extents[n-1])
			continue
		}
		m.extents = append(m.extents, start, end)
	}
}

// bounds returns the addresses from the first to behind the last of the code.
func (m *module) bounds() (start, end uint64) {
	if len(m.extents) == 0 {
		return 0, 0
	}
	return m.extents[0], m.extents[len(m.extents)-1]
}

// function returns what is at pc.
func (m *module) function(pc uint64) (Function, bool) {
	if pc < m.base || len(m.ranges) == 0 {
		return Function{}, false
	}
	offset := pc - m.base
	low, high := 0, len(m.ranges) // the first range that starts behind pc
	for low < high {
		middle := int(uint(low+high) >> 1)
		if uint64(m.ranges[middle].start) <= offset {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 || offset >= uint64(m.ranges[low-1].end) {
		return Function{}, false
	}
	r := &m.ranges[low-1]
	atom, raw := m.text(0, moduleNameLength, moduleName), m.text(int(r.at), rangeNameLength, rangeName)
	kind, base := kindOf(atom, raw)
	return Function{
		Name:   displayName(atom, base),
		Raw:    raw,
		Module: m.name,
		Start:  m.base + uint64(r.start),
		End:    m.base + uint64(r.end),
		Kind:   kind,
		Global: kind == KindFragment,
		code:   m,
		slot:   low - 1,
	}, true
}

// line returns the file and line of the last line of a range that is noted at or
// before an offset from the module's base; of several at one offset, the last.
func (m *module) line(slot int, offset uint64) (file string, number int) {
	at := int(m.ranges[slot].at)
	count := m.number(at + rangeLineCount)
	at += rangeInfoSize + m.length(at+rangeNameLength)
	found, highest := -1, uint32(0)
	for range count {
		if start := m.number(at + lineStart); uint64(start) <= offset && start >= highest {
			found, highest = at, start
		}
		at += lineInfoSize + m.length(at+lineFileLength)
	}
	if found < 0 {
		return "", 0
	}
	return clean(m.text(found, lineFileLength, lineFile)), int(m.number(found + lineNumber))
}

// number reads a number of 32 bits of the symfile, and length one of 16.
func (m *module) number(at int) uint32 { return order.Uint32([]byte(m.symfile[at : at+4])) }
func (m *module) length(at int) int    { return int(order.Uint16([]byte(m.symfile[at : at+2]))) }

// text returns the name of the struct at an offset of the symfile: as cut does,
// which has checked it.
func (m *module) text(at, lengthAt, nameAt int) string {
	name := m.symfile[at+nameAt:][:m.length(at+lengthAt)]
	return name[:strings.IndexByte(name, 0)]
}
