package jit

import (
	"encoding/binary"
	"errors"
	"testing"
	"unicode/utf8"
)

func seeds() [][]byte {
	return [][]byte{
		emulatorSymfile(0, 0x7f0000001000),
		emulatorSymfile(1, 0x7f0000001000),
		one("a", 0x1000, 0x100),
		symfile("global", 0x7f0000000000, 0x200,
			testRange{0, 0x100, "global::garbage_collect", nil},
			testRange{0x100, 0x200, "global::call_light_bif_shared", nil}),
		symfile("Elixir.Enum", 0x7f0000000000, 0x200,
			testRange{0x00, 0x80, "Elixir.Enum::codeHeader", nil},
			testRange{0x80, 0xa0, "'Elixir.Enum':'-map/2-fun-0-'/1-CodeInfoPrologue", nil},
			testRange{0xa0, 0x1f0, "'Elixir.Enum':'-map/2-fun-0-'/1", []testLine{{0x70, 5, "lib/enum.ex"}, {0x100, 7, "lib/enum.ex"}, {0x110, 1, "gen.ex"}}},
			testRange{0x1f0, 0x200, "Elixir.Enum::codeFooter", nil}),
		symfile("odd", 0x7f0000000000, 0x20,
			testRange{0x10, 0x20, "'o\\'dd:/':'\\001\\\\x'/255", []testLine{{0x10, 2, "ü"}, {0, 1, ""}}},
			testRange{0, 0x18, "odd", nil}),
		make([]byte, otp24EmulatorSize),
	}
}

// FuzzSymfile reads any bytes as a symfile: no panic, nothing out of bounds,
// and what is accepted can be looked up.
func FuzzSymfile(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		info, m, err := parseSymfile(b)
		if (info != nil || m != nil) == (err != nil) {
			t.Fatalf("%v, %v, %v", info, m, err)
		}
		if m == nil {
			return
		}
		m.life = &life{}
		x := (&index{}).with([]*module{m}, counts{})
		checkSegments(t, x.segments)
		if len(m.ranges)*rangeInfoSize+m.lineCount*lineInfoSize > len(b) {
			t.Fatalf("%d ranges and %d lines in %d bytes", len(m.ranges), m.lineCount, len(b))
		}
		for _, r := range m.ranges {
			for _, pc := range []uint64{m.base + uint64(r.start), m.base + uint64(r.end) - 1} {
				got, ok := m.function(pc)
				if ok && (pc < got.Start || pc >= got.End) {
					t.Fatalf("%#x is in %+v", pc, got)
				}
				if ok && !x.code.contains(pc) {
					t.Fatalf("%#x is in no region", pc)
				}
				file, _ := got.Line(pc)
				if !utf8.ValidString(got.Name) || !utf8.ValidString(got.Module) || !utf8.ValidString(file) {
					t.Fatalf("%q of %q in %q", got.Name, got.Module, file)
				}
			}
		}
	})
}

// FuzzNames takes any name apart.
func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"lists:map/2", "erlang:'+'/2", "'a:b/c':'d\\'e\\\\'/255", "'Elixir.Enum':map/2", "'Elixir.A':'-b/2-fun-0-'/1",
		"'Elixir.A':'\\001\\n'/0", "'Elixir", "'Elixir.A':", "Elixir::codeHeader", "'Elixir.\xff':'#{'/0",
	} {
		module, _, _ := cutAtom(name, ':')
		f.Add(module, name)
	}
	f.Fuzz(func(t *testing.T, module, raw string) {
		_, base := kindOf(module, raw)
		for _, module := range []string{module, "Elixir", "Elixir.A"} {
			if display := displayName(module, base); display != clean(display) {
				t.Fatalf("%q", display)
			}
		}
	})
}

// FuzzList lets bytes be all of the target's memory.
func FuzzList(f *testing.F) {
	for _, keeps := range []bool{true, false} {
		m := newImage(keeps)
		for _, b := range seeds()[2:] {
			m.register(b)
		}
		f.Add(m.bytes, uint16(8), []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, bytes []byte, where uint16, patch []byte) {
		m := &image{descriptor: imageBase, bytes: bytes}
		table, err := open(m, imageBase, 0)
		if table == nil && err == nil || err != nil && errors.Is(err, ErrIncomplete) != (table != nil) {
			t.Fatalf("%v", err)
		}
		if table == nil {
			return
		}
		probe := func() {
			for i := 0; i+8 <= len(bytes); i += 8 {
				pc := binary.NativeEndian.Uint64(bytes[i:])
				if fn, ok := table.Lookup(pc, 5); ok {
					fn.Line(pc)
				}
			}
		}
		probe()
		copy(bytes[min(int(where), len(bytes)):], patch)
		entries, _, _ := table.Stats()
		_, err = table.Refresh(10)
		if after, _, _ := table.Stats(); err != nil && after < entries {
			t.Fatalf("%d entries of %d are left: %v", after, entries, err)
		}
		probe()
	})
}
