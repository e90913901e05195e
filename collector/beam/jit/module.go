package jit

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// module is the code of one symfile: a module, or the VM's global fragments.
// It does not change once it is in the index.
type module struct {
	life   *life
	name   string // printable
	base   uint64
	size   int         // bytes of the symfile
	ranges []codeRange // by start; none is empty
	lines  []line      // of each range by start
	files  []string    // printable
	text   string      // all names
	// counts as the VM has them, with empty ranges.
	rangeCount int
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
	start, end           uint32
	raw, display         span
	firstLine, lineCount uint32
	kind                 Kind
}

// span is a part of a module's text.
type span struct{ start, length uint32 }

type line struct {
	start  uint32 // relative to the module's base
	number uint32
	file   uint32 // index into the module's files
}

func byStart(a, b line) int { return cmp.Compare(a.start, b.start) }

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
	return Function{
		Name:   m.text[r.display.start:][:r.display.length],
		Raw:    m.text[r.raw.start:][:r.raw.length],
		Module: m.name,
		Start:  m.base + uint64(r.start),
		End:    m.base + uint64(r.end),
		Kind:   r.kind,
		Global: r.kind == KindFragment,
		code:   m,
		slot:   low - 1,
	}, true
}

// linesOf returns the lines of a range.
func (m *module) linesOf(slot int) []line {
	r := &m.ranges[slot]
	return m.lines[r.firstLine:][:r.lineCount]
}
