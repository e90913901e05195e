package jit

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// What does not make sense is reported, and the rest is known all the same.
func TestUnreadableSymfiles(t *testing.T) {
	good := one("a", 0x1000, 0x100)
	patch := func(offset int, value ...byte) []byte {
		b := append([]byte(nil), good...)
		copy(b[offset:], value)
		return b
	}
	rangeAt := debugInfoSize + len("a") + 1
	lineAt := rangeAt + rangeInfoSize + len("a:f/0") + 1
	for name, b := range map[string][]byte{
		"too short":             good[:debugInfoSize-1],
		"empty":                 {},
		"header":                patch(0, 2),
		"no base":               patch(moduleBase, 0, 0, 0, 0, 0, 0, 0, 0),
		"wraps around":          patch(moduleBase, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
		"more ranges":           patch(moduleRangeCount, 2),
		"many more ranges":      patch(moduleRangeCount, 0xff, 0xff, 0xff, 0xff),
		"fewer ranges":          patch(moduleRangeCount, 0),
		"less code":             patch(moduleCodeSize, 0xff, 0),
		"no module name":        patch(moduleNameLength, 0),
		"short module name":     patch(moduleNameLength, 1),
		"long module name":      patch(moduleNameLength, 0xff, 0xff),
		"module name's end":     patch(moduleName+1, 'x'),
		"ends before it starts": patch(rangeAt+rangeStart, 0x01, 0x01),
		"no range name":         patch(rangeAt+rangeNameLength, 0),
		"long range name":       patch(rangeAt+rangeNameLength, 0xff, 0xff),
		"more lines":            patch(rangeAt+rangeLineCount, 2),
		"many more lines":       patch(rangeAt+rangeLineCount, 0xff, 0xff, 0xff, 0xff),
		"fewer lines":           patch(rangeAt+rangeLineCount, 0),
		"line behind the code":  patch(lineAt+lineStart, 0x01, 0x01),
		"long file name":        patch(lineAt+lineFileLength, 0xff, 0xff),
		"cut off":               good[:len(good)-1],
		"more":                  append(append([]byte(nil), good...), 0),
		"emulator's layout":     emulatorSymfile(2, 1),
		"emulator's exit":       emulatorSymfile(0, 0),
	} {
		m := newImage(true).with(one("before", 0x2000, 0x100), b, one("after", 0x3000, 0x100))
		table, err := Open(m, m.descriptor)
		if !errors.Is(err, ErrIncomplete) || table == nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if named(table, 0x2000, 0) == "" || named(table, 0x3000, 0) == "" || named(table, 0x1000, 0) != "" {
			t.Errorf("%s: the wrong modules are known", name)
		}
		if table.Unreadable() != 1 {
			t.Errorf("%s: %d unreadable", name, table.Unreadable())
		}
		m.reads = 0
		if changed, err := table.Refresh(5); err != nil || changed || m.reads != 1 {
			t.Errorf("%s: asked again for nothing: %v", name, err)
		}
	}
}

// Names and order are the target's affair, but must do no harm.
func TestStrangeSymfiles(t *testing.T) {
	table := mustOpen(t, newImage(true).with(symfile("a\x1b[2J", 0x1000, 0x100,
		testRange{0x80, 0x100, "a:last/0", []testLine{{0x90, 2, "x"}, {0x80, 1, "\xff\n"}}},
		testRange{0x00, 0x90, "a:\x1b[2J/0", nil},
		testRange{0x00, 0x00, "a:empty/0", nil},
		testRange{0x20, 0x20, "a:cut\x00off/0", nil},
	)))
	f, _ := table.Lookup(0x1000, 0)
	if f.Name != "a:\uFFFD[2J/0" || f.Raw != "a:\x1b[2J/0" || f.Module != "a\uFFFD[2J" {
		t.Errorf("name %q, raw %q, module %q", f.Name, f.Raw, f.Module)
	}
	f, _ = table.Lookup(0x1088, 0)
	if file, line := f.Line(0x1088); f.Name != "a:last/0" || file != "\uFFFD\uFFFD" || line != 1 {
		t.Errorf("%q %q %d", f.Name, file, line)
	}
	if _, line := f.Line(0x1090); line != 2 {
		t.Errorf("line %d", line)
	}
	if _, ranges, lines := table.Stats(); ranges != 4 || lines != 2 {
		t.Errorf("%d ranges, %d lines", ranges, lines)
	}
}

func TestListLoops(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		for back := range 5 { // from the last entry to itself, the one before, ...
			m := newImage(keeps)
			for i := range 9 {
				m.register(one("m", 0x10000+uint64(i)<<8, 0x80))
			}
			oldest := len(m.list) - 1
			emulator := m.list[oldest]
			m.put64(m.list[oldest-1], 0)
			m.put64(emulator, m.list[0]) // it is the newest one now
			m.put64(m.descriptor+16, emulator)
			m.put64(m.list[oldest-1], m.list[oldest-1-back])
			table, err := Open(m, m.descriptor)
			if table == nil || !errors.Is(err, ErrIncomplete) || !strings.Contains(err.Error(), "loops") {
				t.Fatalf("keeps=%t, %d back: %v", keeps, back, err)
			}
			if entries, _, _ := table.Stats(); entries != 10 {
				t.Errorf("keeps=%t, %d back: %d entries", keeps, back, entries)
			}
			for i := range 9 {
				if named(table, 0x10000+uint64(i)<<8, 0) == "" {
					t.Errorf("keeps=%t, %d back: module %d is not known", keeps, back, i)
				}
			}
		}
	}
}

// A link into nowhere: what comes before and what was known stays.
func TestBrokenLink(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		m := newImage(keeps).with(one("a", 0x1000, 0x100), one("b", 0x2000, 0x100))
		table := mustOpen(t, m)
		m.with(one("c", 0x3000, 0x100), one("d", 0x4000, 0x100))
		c := m.list[1]
		next := m.list[2]
		m.put64(c, 0x123)
		if changed, err := table.Refresh(100); !changed || !errors.Is(err, ErrIncomplete) || !errors.Is(err, errUnreadable) {
			t.Errorf("keeps=%t: %v", keeps, err)
		}
		for _, pc := range []uint64{0x1000, 0x2000, 0x3000, 0x4000} {
			if named(table, pc, 100) == "" {
				t.Errorf("keeps=%t: nothing at %#x", keeps, pc)
			}
		}
		// Once the link is right again nothing is new, and all is well.
		m.put64(c, next)
		if changed, err := table.Refresh(100 + recheck); changed || err != nil {
			t.Errorf("keeps=%t: %t, %v", keeps, changed, err)
		}
		if entries, _, _ := table.Stats(); entries != 5 {
			t.Errorf("keeps=%t: %d entries", keeps, entries)
		}
	}
}

// endless is a list that never ends, and never comes by an entry twice.
type endless struct {
	reads int
	bytes uint64
	size  uint64 // of each symfile
}

const endlessDescriptor, endlessSymfile, endlessEntries = 0x100, 0x1000, 1 << 40

func (e *endless) Read(buf []byte, address uint64) error {
	e.reads++
	e.bytes += uint64(len(buf))
	n := binary.NativeEndian
	switch {
	case address == endlessDescriptor:
		n.PutUint32(buf, descriptorVersion)
		n.PutUint32(buf[4:], 1)
		n.PutUint64(buf[8:], endlessEntries)
		n.PutUint64(buf[16:], endlessEntries)
	case address == endlessSymfile:
		if len(buf) > 0 {
			buf[0] = 77 // no known header
		}
	default:
		n.PutUint64(buf, address+entrySize)
		n.PutUint64(buf[16:], endlessSymfile)
		n.PutUint64(buf[24:], e.size)
	}
	return nil
}

func TestEndlessList(t *testing.T) {
	for _, size := range []uint64{100, MaxSymfile, ^uint64(0)} {
		memory := &endless{size: size}
		if table, err := open(memory, endlessDescriptor, 0); err == nil || table != nil {
			t.Fatalf("symfiles of %d bytes: %v", size, err)
		}
		if memory.reads > maxAttempts*(2*MaxEntries+2) || memory.bytes > maxAttempts*(MaxTotal+2*entrySize*MaxEntries) {
			t.Errorf("symfiles of %d bytes: %d reads, %d bytes", size, memory.reads, memory.bytes)
		}
	}
}

// An entry goes while the list is read: its memory says something else then.
func TestEntryGoesWhileRead(t *testing.T) {
	for removedAt := 1; removedAt < 30; removedAt++ {
		m := newImage(false)
		for i := range 5 {
			m.register(one("m", 0x10000+uint64(i)<<8, 0x80))
		}
		table := mustOpen(t, m)
		m.register(one("new", 0x50000, 0x100))
		doomed := m.register(one("doomed", 0x60000, 0x200))
		m.register(one("newest", 0x70000, 0x80))
		m.reads = 0
		removed := false
		m.before = func(uint64) {
			if m.reads == removedAt {
				m.unregister(doomed)
				removed = true
			}
		}
		if _, err := table.Refresh(100); err != nil {
			t.Fatalf("removed at read %d: %v", removedAt, err)
		}
		m.before = nil
		refresh(t, table, 101)
		refresh(t, table, 101+recheck)
		if entries, _, _ := table.Stats(); removed && entries != 8 {
			t.Errorf("removed at read %d: %d entries", removedAt, entries)
		}
		for _, pc := range []uint64{0x10000, 0x10400, 0x50000, 0x70000} {
			if named(table, pc, 101) == "" {
				t.Errorf("removed at read %d: nothing at %#x", removedAt, pc)
			}
		}
		if got := named(table, 0x60000, 102+recheck); removed && got != "" {
			t.Errorf("removed at read %d: %q is still there", removedAt, got)
		}
	}
}

// A list that changes at every look is given up, and what was known stays.
func TestRestlessList(t *testing.T) {
	m := newImage(false).with(one("a", 0x1000, 0x100))
	table := mustOpen(t, m)
	version := table.Version()
	victim := m.register(one("b", 0x2000, 0x100))
	m.before = func(address uint64) {
		if address == victim { // it goes as soon as it is looked at, and another one comes
			m.unregister(victim)
			m.free = map[int][]uint64{}
			victim = m.register(one("b", 0x2000, 0x100))
		}
	}
	if changed, err := table.Refresh(100); changed || !errors.Is(err, ErrUnstable) {
		t.Errorf("%t, %v", changed, err)
	}
	if table.Version() != version || named(table, 0x1000, 100) != "a:f/0" {
		t.Error("what was known was lost")
	}
	m.before = nil
	refresh(t, table, 101)
	if named(table, 0x2000, 101) != "b:f/0" {
		t.Error("the list is not read once it is at rest")
	}
}

// The target goes away.
func TestMemoryGoes(t *testing.T) {
	m := newImage(true).with(one("a", 0x1000, 0x100))
	table := mustOpen(t, m)
	m.bytes = nil
	if changed, err := table.Refresh(100); changed || !errors.Is(err, errUnreadable) {
		t.Errorf("%t, %v", changed, err)
	}
	if named(table, 0x1000, 100) != "a:f/0" {
		t.Error("what was known was lost")
	}
}
