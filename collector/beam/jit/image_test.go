package jit

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
)

// An image is memory with a JIT list in it, changed as a VM changes its own.
type image struct {
	descriptor uint64
	keeps      bool // like OTP 25: never removes, leaves relevant set
	bytes      []byte
	free       map[int][]uint64 // by size; the last freed is reused first, as malloc does
	list       []uint64         // entries, newest first
	reads      int
	before     func(address uint64) // called before each read
}

const imageBase = 0x10000

var errUnreadable = errors.New("no such memory")

// newImage returns the image of a VM that has just started.
func newImage(keeps bool) *image {
	m := &image{keeps: keeps, free: map[int][]uint64{}}
	m.descriptor = m.allocate(descriptorSize)
	m.put32(m.descriptor, descriptorVersion)
	return m.with(emulatorSymfile(0, 0xeeee0))
}

// with registers symfiles, the last one last.
func (m *image) with(symfiles ...[]byte) *image {
	for _, s := range symfiles {
		m.register(s)
	}
	return m
}

func (m *image) Read(buf []byte, address uint64) error {
	m.reads++
	if m.before != nil {
		m.before(address)
	}
	if address < imageBase || address-imageBase+uint64(len(buf)) > uint64(len(m.bytes)) {
		return errUnreadable
	}
	copy(buf, m.bytes[address-imageBase:])
	return nil
}

func (m *image) at(address uint64) []byte { return m.bytes[address-imageBase:] }

func (m *image) put32(address uint64, v uint32) { binary.NativeEndian.PutUint32(m.at(address), v) }
func (m *image) put64(address uint64, v uint64) { binary.NativeEndian.PutUint64(m.at(address), v) }

func (m *image) allocate(size int) uint64 {
	size = (size + 15) &^ 15
	if free := m.free[size]; len(free) > 0 {
		m.free[size] = free[:len(free)-1]
		return free[len(free)-1]
	}
	address := imageBase + uint64(len(m.bytes))
	m.bytes = append(m.bytes, make([]byte, size)...)
	return address
}

// release does what malloc does: the first words hold its own links then.
func (m *image) release(address uint64, size int) {
	size = (size + 15) &^ 15
	m.put64(address, 0xdead0001)
	m.put64(address+8, 0xdead0002)
	m.free[size] = append(m.free[size], address)
}

func (m *image) register(symfile []byte) uint64 {
	s := m.allocate(len(symfile))
	copy(m.at(s), symfile)
	e := m.allocate(entrySize)
	m.put64(e+16, s)
	m.put64(e+24, uint64(len(symfile)))
	m.list = slices.Insert(m.list, 0, e)
	m.link(1, e)
	return e
}

func (m *image) unregister(e uint64) {
	m.list = slices.DeleteFunc(m.list, func(a uint64) bool { return a == e })
	m.link(actionUnregister, e)
	symfile, size := binary.NativeEndian.Uint64(m.at(e+16)), binary.NativeEndian.Uint64(m.at(e+24))
	m.release(symfile, int(size))
	m.release(e, entrySize)
}

// link writes the descriptor and the links of all entries.
func (m *image) link(action uint32, relevant uint64) {
	for i, e := range m.list {
		var next, previous uint64
		if i > 0 {
			previous = m.list[i-1]
		}
		if i+1 < len(m.list) {
			next = m.list[i+1]
		}
		m.put64(e, next)
		m.put64(e+8, previous)
	}
	if !m.keeps {
		relevant = 0
	}
	m.put32(m.descriptor+4, action)
	m.put64(m.descriptor+8, relevant)
	m.put64(m.descriptor+16, m.list[0])
}

func emulatorSymfile(layout uint32, exit uint64) []byte {
	b := make([]byte, debugInfoSize)
	binary.NativeEndian.PutUint32(b[emulatorLayout:], layout)
	binary.NativeEndian.PutUint64(b[emulatorExit:], exit)
	return b
}

type testRange struct {
	start, end uint32
	name       string
	lines      []testLine
}

type testLine struct {
	start, number uint32
	file          string
}

func symfile(name string, base uint64, size uint32, ranges ...testRange) []byte {
	e := binary.NativeEndian
	b := e.AppendUint64(nil, headerModule)
	b = e.AppendUint64(b, base)
	b = e.AppendUint32(b, uint32(len(ranges)))
	b = e.AppendUint32(b, size)
	b = appendName(b, 6, name)
	for _, r := range ranges {
		b = e.AppendUint32(b, r.start)
		b = e.AppendUint32(b, r.end)
		b = e.AppendUint32(b, uint32(len(r.lines)))
		b = appendName(b, 2, r.name)
		for _, l := range r.lines {
			b = e.AppendUint32(b, l.start)
			b = e.AppendUint32(b, l.number)
			b = appendName(b, 2, l.file)
		}
	}
	return b
}

// appendName appends a name's length, the name and the gap that follows it.
func appendName(b []byte, gap int, name string) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(len(name)+1))
	b = append(append(b, name...), 0)
	for range gap {
		b = append(b, 0xa5) // what malloc left there
	}
	return b
}

// one is the symfile of a module with one function that fills it.
func one(name string, base uint64, size uint32) []byte {
	return symfile(name, base, size, testRange{0, size, name + ":f/0", []testLine{{0, 1, name + ".erl"}}})
}

func mustOpen(t testing.TB, m *image) *Table {
	t.Helper()
	table, err := Open(m, m.descriptor)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func refresh(t testing.TB, table *Table, at uint64) {
	t.Helper()
	if _, err := table.Refresh(at); err != nil {
		t.Fatal(err)
	}
}

// named returns the VM's name of what was at pc, "" for nothing.
func named(table *Table, pc, at uint64) string {
	f, _ := table.Lookup(pc, at)
	return f.Raw
}
