package jit

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestLookupIsExact(t *testing.T) {
	table := mustOpen(t, newImage(true).with(symfile("lists", 0x1000, 0x100,
		testRange{0x00, 0x10, "lists::codeHeader", nil},
		testRange{0x18, 0x20, "lists:map/2-CodeInfoPrologue", nil}, // OTP 27 leaves gaps before
		testRange{0x20, 0x40, "lists:map/2", nil},
		testRange{0x40, 0x40, "lists:empty/0", nil},
		testRange{0x40, 0x80, "lists:foldl/3", nil},
		testRange{0x80, 0x100, "lists::codeFooter", nil},
	)))
	for pc, want := range map[uint64]string{
		0xfff:      "",
		0x1000:     "lists::codeHeader",
		0x100f:     "lists::codeHeader",
		0x1010:     "",
		0x1017:     "",
		0x1018:     "lists:map/2-CodeInfoPrologue",
		0x1020:     "lists:map/2",
		0x103f:     "lists:map/2",
		0x1040:     "lists:foldl/3",
		0x107f:     "lists:foldl/3",
		0x1080:     "lists::codeFooter",
		0x10ff:     "lists::codeFooter",
		0x1100:     "",
		0:          "",
		^uint64(0): "",
	} {
		f, ok := table.Lookup(pc, 0)
		if f.Raw != want || ok != (want != "") {
			t.Errorf("Lookup(%#x) = %q, %t; want %q", pc, f.Raw, ok, want)
		}
		if table.Contains(pc) != ok {
			t.Errorf("Contains(%#x) = %t", pc, !ok)
		}
		if ok && (pc < f.Start || pc >= f.End || f.Module != "lists") {
			t.Errorf("Lookup(%#x) = %+v", pc, f)
		}
	}
	if entries, ranges, lines := table.Stats(); entries != 2 || ranges != 6 || lines != 0 {
		t.Errorf("%d entries, %d ranges, %d lines", entries, ranges, lines)
	}
	if table.NormalExit() != 0xeeee0 || table.FrameLayout() != 0 {
		t.Errorf("normal exit %#x, frame layout %d", table.NormalExit(), table.FrameLayout())
	}
}

func TestKinds(t *testing.T) {
	table := mustOpen(t, newImage(true).with(
		symfile("global", 0x1000, 0x10, testRange{0, 0x10, "global::garbage_collect", nil}),
		// OTP has a module of that name, too.
		symfile("global", 0x2000, 0x30,
			testRange{0x00, 0x08, "global::codeHeader", nil},
			testRange{0x08, 0x10, "global:sync/0-CodeInfoPrologue", nil},
			testRange{0x10, 0x20, "global:sync/0", nil},
			testRange{0x20, 0x30, "global::codeFooter", nil})))
	for pc, want := range map[uint64]struct {
		name string
		kind Kind
	}{
		0x1000: {"global::garbage_collect", KindFragment},
		0x2000: {"global::codeHeader", KindHeader},
		0x2008: {"global:sync/0", KindPrologue},
		0x2010: {"global:sync/0", KindFunction},
		0x2020: {"global::codeFooter", KindFooter},
	} {
		f, _ := table.Lookup(pc, 0)
		if f.Name != want.name || f.Kind != want.kind || f.Global != (want.kind == KindFragment) {
			t.Errorf("Lookup(%#x) = %q of kind %d (global %t), want %+v", pc, f.Name, f.Kind, f.Global, want)
		}
	}
}

func TestLine(t *testing.T) {
	table := mustOpen(t, newImage(true).with(symfile("m", 0x1000, 0x100,
		testRange{0x00, 0x10, "m:f/0-CodeInfoPrologue", nil},
		testRange{0x10, 0x80, "m:f/0", []testLine{{0x00, 7, "m.erl"}, {0x30, 9, "m.erl"}, {0x30, 10, "m.hrl"}, {0x40, 8, "m.erl"}}},
		testRange{0x80, 0xc0, "m:g/0", []testLine{{0x90, 20, "m.erl"}}},
		testRange{0xc0, 0xd0, "m:h/0-CodeInfoPrologue", nil},
		testRange{0xd8, 0xe0, "m:h/0", []testLine{{0xc0, 30, "m.erl"}}},
		testRange{0xe0, 0xf0, "m:module_info/0-CodeInfoPrologue", nil},
		testRange{0xf0, 0x100, "m:module_info/0", []testLine{{0xff, 40, "m.erl"}}}, // the head of what follows
	)))
	for pc, want := range map[uint64]string{
		0x1000: "m.erl:7", // a prologue has the line that its function begins with
		0x100f: "m.erl:7",
		0x1010: "m.erl:7", // noted before the function's own code
		0x102f: "m.erl:7",
		0x1030: "m.hrl:10",
		0x103f: "m.hrl:10",
		0x1040: "m.erl:8",
		0x107f: "m.erl:8",
		0x1080: ":0", // nothing noted yet
		0x108f: ":0",
		0x1090: "m.erl:20",
		0x10c0: ":0", // no function follows this prologue
		0x10d8: "m.erl:30",
		0x10e0: ":0",
		0x10f0: ":0",
		0x10ff: "m.erl:40",
	} {
		f, ok := table.Lookup(pc, 0)
		if !ok {
			t.Errorf("nothing at %#x", pc)
		}
		file, line := f.Line(pc)
		if got := fmt.Sprintf("%s:%d", file, line); got != want {
			t.Errorf("line of %#x is %s, want %s", pc, got, want)
		}
	}
	f, _ := table.Lookup(0x1030, 0)
	for _, pc := range []uint64{0x100f, 0x1080, 0} {
		if file, line := f.Line(pc); file != "" || line != 0 {
			t.Errorf("line of %#x, which is outside of the function, is %s:%d", pc, file, line)
		}
	}
	if file, line := (Function{}).Line(5); file != "" || line != 0 {
		t.Errorf("the zero Function has line %s:%d", file, line)
	}
}

// Code loaded over older code is found from its registration on.
func TestHistory(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		t.Run(fmt.Sprintf("keeps=%t", keeps), func(t *testing.T) {
			m := newImage(keeps).with(one("a", 0x1000, 0x100))
			table := mustOpen(t, m)
			version := table.Version()
			refresh(t, table, 50)
			if table.Version() != version {
				t.Error("the version changed without a reason")
			}
			m.register(one("b", 0x1040, 0x200))
			refresh(t, table, 100)
			refresh(t, table, 150)
			m.register(one("c", 0xfc0, 0x90))
			refresh(t, table, 200)
			if table.Version() == version {
				t.Error("the version did not change")
			}
			for _, test := range []struct {
				pc, at uint64
				want   string
			}{
				{0x1000, 0, "a:f/0"}, {0x1000, 199, "a:f/0"}, {0x1000, 200, "c:f/0"},
				{0x1040, 99, "a:f/0"}, {0x1040, 100, "b:f/0"}, {0x1040, 199, "b:f/0"}, {0x1040, 200, "c:f/0"},
				{0x1050, 200, "b:f/0"}, {0x10ff, 99, "a:f/0"}, {0x10ff, 100, "b:f/0"},
				{0x1200, 100, "b:f/0"},
				{0x1200, 50, "b:f/0"}, // may have been there already
				{0x1200, 49, ""},      // was not
				{0xfc0, 150, "c:f/0"}, {0xfc0, 149, ""},
			} {
				if got := named(table, test.pc, test.at); got != test.want {
					t.Errorf("at %#x at time %d: %q, want %q", test.pc, test.at, got, test.want)
				}
			}
			for pc, want := range map[uint64]bool{0xfbf: false, 0xfc0: true, 0x10ff: true, 0x123f: true, 0x1240: false} {
				if table.Contains(pc) != want {
					t.Errorf("Contains(%#x) = %t", pc, !want)
				}
			}
		})
	}
}

// Entries that were read at Open have no time: the newest one is right.
func TestNewestOfOpen(t *testing.T) {
	table := mustOpen(t, newImage(true).with(one("a", 0x1000, 0x100), one("b", 0x1080, 0x100), one("c", 0x1040, 0x20)))
	for pc, want := range map[uint64]string{0x1000: "a:f/0", 0x1040: "c:f/0", 0x105f: "c:f/0", 0x1060: "a:f/0", 0x1080: "b:f/0", 0x117f: "b:f/0"} {
		if got := named(table, pc, 0); got != want {
			t.Errorf("at %#x: %q, want %q", pc, got, want)
		}
	}
}

func TestRemoval(t *testing.T) {
	m := newImage(false).with(one("a", 0x1000, 0x100))
	b := m.register(one("b", 0x2000, 0x100))
	m.with(one("c", 0x3000, 0x100))
	table := mustOpen(t, m)
	refresh(t, table, 100)
	m.unregister(b)
	refresh(t, table, 200)
	for at, want := range map[uint64]string{0: "b:f/0", 199: "b:f/0", 200: "", 1000: ""} {
		if got := named(table, 0x2000, at); got != want {
			t.Errorf("at time %d: %q, want %q", at, got, want)
		}
	}
	if named(table, 0x1000, 300) == "" || named(table, 0x3000, 300) == "" {
		t.Error("code that is still there was lost")
	}
	if !table.Contains(0x2000) {
		t.Error("removed code is forgotten")
	}
	if entries, ranges, _ := table.Stats(); entries != 3 || ranges != 2 {
		t.Errorf("%d entries, %d ranges", entries, ranges)
	}
	// Other code comes to the same place, and its entry to the same address.
	m.register(one("d", 0x2000, 0x100))
	refresh(t, table, 300)
	for at, want := range map[uint64]string{199: "b:f/0", 200: "d:f/0", 300: "d:f/0"} { // 200: may have been there
		if got := named(table, 0x2000, at); got != want {
			t.Errorf("after reuse, at time %d: %q, want %q", at, got, want)
		}
	}
}

// The newest entry goes and another one comes at its address: nothing of the
// list shows it, only the symfile.
func TestReusedEntry(t *testing.T) {
	m := newImage(false).with(one("a", 0x1000, 0x100))
	b := m.register(one("b", 0x2000, 0x100))
	table := mustOpen(t, m)
	refresh(t, table, 100)
	m.unregister(b)
	if again := m.register(one("c", 0x3000, 0x100)); again != b {
		t.Fatalf("the test's memory does not reuse %#x but %#x", b, again)
	}
	refresh(t, table, 100+recheck)
	if got := named(table, 0x3000, 100+recheck); got != "c:f/0" {
		t.Errorf("the new module is %q", got)
	}
	if got := named(table, 0x2000, 100+recheck); got != "" {
		t.Errorf("the removed module is %q", got)
	}
	if got := named(table, 0x1000, 100+recheck); got != "a:f/0" {
		t.Errorf("the module that stayed is %q", got)
	}
	// Many at once, in the same order.
	var entries []uint64
	for i := range 40 {
		entries = append(entries, m.register(one("e", 0x100000+uint64(i)<<12, 0x100)))
	}
	refresh(t, table, 200+recheck)
	for _, e := range slices.Backward(entries) {
		m.unregister(e)
	}
	for i := range 40 {
		m.register(one("f", 0x100000+uint64(i)<<12, 0x80))
	}
	refresh(t, table, 200+2*recheck)
	for i := range 40 {
		if got := named(table, 0x100000+uint64(i)<<12, 200+2*recheck); got != "f:f/0" {
			t.Errorf("module %d is %q", i, got)
		}
	}
	if got := named(table, 0x1000, 200+2*recheck); got != "a:f/0" {
		t.Errorf("the module that stayed is %q", got)
	}
}

// Two removals in a row leave the same descriptor.
func TestSilentRemoval(t *testing.T) {
	m := newImage(false).with(one("a", 0x1000, 0x100))
	b := m.register(one("b", 0x2000, 0x100))
	c := m.register(one("c", 0x3000, 0x100))
	m.with(one("d", 0x4000, 0x100))
	table := mustOpen(t, m)
	m.unregister(b)
	refresh(t, table, 100)
	m.unregister(c)
	refresh(t, table, 101)
	refresh(t, table, 100+recheck)
	if got := named(table, 0x3000, 100+recheck); got != "" {
		t.Errorf("the removed module is %q", got)
	}
	if got := named(table, 0x4000, 100+recheck); got != "d:f/0" {
		t.Errorf("the module that stayed is %q", got)
	}
}

func TestRefreshIsCheap(t *testing.T) {
	for _, keeps := range []bool{true, false} {
		m := newImage(keeps)
		for i := range 50 {
			m.register(one("m", 0x10000+uint64(i)<<8, 0x80))
		}
		table := mustOpen(t, m)
		m.reads = 0
		for at := range uint64(10) {
			refresh(t, table, 1+at)
		}
		if m.reads != 10 {
			t.Errorf("keeps=%t: %d reads in 10 refreshes without a change", keeps, m.reads)
		}
		if !keeps {
			continue
		}
		m.register(one("n", 0x50000, 0x80))
		m.reads = 0
		refresh(t, table, 100)
		if m.reads != 3 {
			t.Errorf("%d reads for one new entry", m.reads)
		}
	}
}

func TestGenerationsAreBounded(t *testing.T) {
	m := newImage(true)
	table := mustOpen(t, m)
	const reloads = 4 * MaxGenerations
	for i := range reloads {
		m.register(one(fmt.Sprintf("m%d", i), 0x1000, 0x100))
		refresh(t, table, uint64(i+1)*10)
		refresh(t, table, uint64(i+1)*10+5)
	}
	for i := range reloads {
		want := fmt.Sprintf("m%d:f/0", i)
		if i < reloads-MaxGenerations {
			want = ""
		}
		if got := named(table, 0x1000, uint64(i+1)*10); got != want {
			t.Errorf("at time %d: %q, want %q", (i+1)*10, got, want)
		}
	}
	if held := table.index.Load().held(); held != MaxGenerations*len(one("m99", 0, 0)) {
		t.Errorf("%d bytes held", held)
	}
}

func TestOpenErrors(t *testing.T) {
	m := newImage(true)
	if _, err := Open(m, 1); !errors.Is(err, errUnreadable) {
		t.Errorf("unreadable descriptor: %v", err)
	}
	m.put32(m.descriptor, 2)
	if _, err := Open(m, m.descriptor); !errors.Is(err, ErrLayout) {
		t.Errorf("unknown version: %v", err)
	}
	m = newImage(true)
	m.put64(m.descriptor+16, 0)
	if _, err := Open(m, m.descriptor); !errors.Is(err, ErrNoCode) {
		t.Errorf("empty list: %v", err)
	}
	m = &image{keeps: true, free: map[int][]uint64{}}
	m.descriptor = m.allocate(descriptorSize)
	m.put32(m.descriptor, descriptorVersion)
	m.register(make([]byte, otp24EmulatorSize))
	if table, err := Open(m, m.descriptor); !errors.Is(err, ErrLayout) || errors.Is(err, ErrIncomplete) || table != nil || !strings.Contains(err.Error(), "OTP 24") {
		t.Errorf("OTP 24's layout: %v", err)
	}
	m = &image{keeps: true, free: map[int][]uint64{}}
	m.descriptor = m.allocate(descriptorSize)
	m.put32(m.descriptor, descriptorVersion)
	m.register(one("a", 0x1000, 0x100))
	if table, err := Open(m, m.descriptor); !errors.Is(err, ErrLayout) || errors.Is(err, ErrIncomplete) || table != nil {
		t.Errorf("no emulator information: %v", err)
	}
}

// Readers go on while the list changes. Run with -race.
func TestReadersDoNotWait(t *testing.T) {
	m := newImage(false).with(one("a", 0x1000, 0x100))
	table := mustOpen(t, m)
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := named(table, 0x1000, 0); got != "a:f/0" {
					t.Errorf("the module that stayed is %q", got)
					return
				}
				if f, ok := table.Lookup(0x2000, ^uint64(0)); ok {
					f.Line(0x2000)
				}
				table.Contains(0x2000)
				table.Version()
				table.Stats()
			}
		})
	}
	for i := range uint64(200) {
		b := m.register(one("b", 0x2000, 0x100))
		refresh(t, table, 10*i+1)
		m.unregister(b)
		refresh(t, table, 10*i+5)
	}
	close(stop)
	readers.Wait()
}
