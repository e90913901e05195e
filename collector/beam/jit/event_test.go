package jit

import "testing"

func expect(t *testing.T, table *Table, pc uint64, want map[uint64]string) {
	t.Helper()
	for at, name := range want {
		if got := named(table, pc, at); got != name {
			t.Errorf("at %#x at time %d: %q, want %q", pc, at, got, name)
		}
	}
}

func hear(t *testing.T, table *Table, at uint64, events ...Event) {
	t.Helper()
	if _, err := table.Refresh(at, events...); err != nil {
		t.Fatal(err)
	}
}

// Several modules that came to one place between two looks are found each at
// its time, if the VM's own events tell it.
func TestEventsTellTimes(t *testing.T) {
	m := newImage(true)
	table := mustOpen(t, m)
	refresh(t, table, 10)
	a := m.register(one("a", 0x1000, 0x100))
	b := m.register(one("b", 0x1000, 0x80))
	c := m.register(one("c", 0x1000, 0x100))
	hear(t, table, 50, Event{20, a, false}, Event{30, b, false}, Event{40, c, false})
	expect(t, table, 0x1000, map[uint64]string{9: "", 20: "a:f/0", 29: "a:f/0", 30: "b:f/0", 39: "b:f/0", 40: "c:f/0", 60: "c:f/0"})
	expect(t, table, 0x1090, map[uint64]string{9: "", 20: "a:f/0", 39: "a:f/0", 40: "c:f/0"})
}

// What is found before its event was told gets its time with the event.
func TestEventComesLate(t *testing.T) {
	m := newImage(true)
	table := mustOpen(t, m)
	refresh(t, table, 10)
	a := m.register(one("a", 0x1000, 0x100))
	b := m.register(one("b", 0x1000, 0x100))
	hear(t, table, 50, Event{20, a, false})
	expect(t, table, 0x1000, map[uint64]string{20: "a:f/0", 49: "a:f/0", 50: "b:f/0"})
	version := table.Version()
	hear(t, table, 60, Event{30, b, false})
	expect(t, table, 0x1000, map[uint64]string{20: "a:f/0", 29: "a:f/0", 30: "b:f/0"})
	if table.Version() == version {
		t.Error("the names changed and the version did not")
	}
	hear(t, table, 70, Event{65, b, false}) // told twice: once is enough
	expect(t, table, 0x1000, map[uint64]string{29: "a:f/0", 30: "b:f/0"})
}

// Where the VM takes entries off its list, events tell when, also if it uses the
// entry's place for another one at once.
func TestEventsTellRemovals(t *testing.T) {
	m := newImage(false)
	first := m.register(one("a", 0x1000, 0x100))
	table := mustOpen(t, m)
	refresh(t, table, 10)
	m.unregister(first)
	second := m.register(one("b", 0x1000, 0x100))
	if first != second {
		t.Fatal("the entry's place was not used again")
	}
	hear(t, table, 50, Event{20, first, true}, Event{30, second, false})
	expect(t, table, 0x1000, map[uint64]string{10: "a:f/0", 19: "a:f/0", 20: "", 29: "", 30: "b:f/0"})
	m.unregister(second)
	hear(t, table, 90, Event{80, second, true})
	expect(t, table, 0x1000, map[uint64]string{79: "b:f/0", 80: "", 100: ""})
}

// Events of nothing do no harm.
func TestEventsOfNothing(t *testing.T) {
	m := newImage(true).with(one("a", 0x1000, 0x100))
	table := mustOpen(t, m)
	hear(t, table, 50, Event{0, 0, false}, Event{20, 0x123, true}, Event{30, m.list[0], true})
	expect(t, table, 0x1000, map[uint64]string{0: "a:f/0", 60: "a:f/0"})
}
