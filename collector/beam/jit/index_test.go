package jit

import (
	"fmt"
	"testing"
)

// FuzzIndex compares the index with the plain rule that it implements: of all
// modules that cover an address, the newest registered by then.
func FuzzIndex(f *testing.F) {
	f.Add([]byte{0, 16, 0, 8, 16, 0, 4, 4, 1})
	f.Add([]byte{10, 10, 0, 20, 10, 0, 5, 40, 1, 0, 60, 1, 12, 1, 1, 12, 1, 1})
	f.Add([]byte{0, 16, 2, 8, 16, 2, 4, 4, 3, 0, 20, 2, 2, 20, 1})
	f.Add([]byte{0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 1, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		x := &index{}
		var all, batch []*module // the oldest first; the newest first
		at := uint64(0)
		flush := func() {
			x = x.with(batch, counts{})
			for i := len(batch) - 1; i >= 0; i-- {
				all = append(all, batch[i])
			}
			batch = nil
			at++
		}
		// Three bytes are a module: where, how long, and whether time goes on.
		for ; len(script) >= 3 && len(all)+len(batch) < 40; script = script[3:] {
			m := &module{name: fmt.Sprint(len(all) + len(batch)), base: 1000 + uint64(script[0])}
			m.life = &life{after: at}
			m.life.since.Store(at)
			m.ranges = []codeRange{{start: 0, end: uint32(script[1])}}
			m.finish()
			batch = append([]*module{m}, batch...)
			switch script[2] & 3 {
			case 1:
				flush()
			case 2: // seen at the same time, and told when it came
				at++
			}
		}
		flush()
		checkSegments(t, x.segments)
		for address := uint64(990); address < 1530; address++ {
			if got, want := x.code.contains(address), covered(all, address); got != want {
				t.Fatalf("contains(%d) = %t", address, got)
			}
			for time := range at {
				got := x.generations(address).at(time)
				if want := newest(all, address, time); got != want {
					t.Fatalf("at %d at time %d: %v, want %v", address, time, got, want)
				}
			}
		}
	})
}

func checkSegments(t *testing.T, segments []segment) {
	t.Helper()
	end := uint64(0)
	for _, s := range segments {
		if s.start < end || s.start >= s.end || s.newest == nil {
			t.Fatalf("segment %+v after %d", s, end)
		}
		end = s.end
		depth := s.newest.depth
		for g := s.newest; g != nil; g = g.older {
			if g.depth != depth {
				t.Fatalf("depth %d, want %d", g.depth, depth)
			}
			depth--
		}
		if depth != -1 || s.newest.depth >= MaxGenerations {
			t.Fatalf("a list of %d generations", s.newest.depth+1)
		}
	}
}

func covers(m *module, address uint64) bool {
	start, end := m.bounds()
	return address >= start && address < end
}

func covered(modules []*module, address uint64) bool {
	for _, m := range modules {
		if covers(m, address) {
			return true
		}
	}
	return false
}

// newest is what at does, for modules with the oldest first. Of those at an
// address that came at the same time only the newest counts, and only the
// newest generations are kept.
func newest(modules []*module, address, time uint64) *module {
	var generations []*module // the newest first
	for i := len(modules) - 1; i >= 0; i-- {
		m := modules[i]
		if !covers(m, address) {
			continue
		}
		if n := len(generations); n > 0 && generations[n-1].life.since.Load() == m.life.since.Load() {
			continue
		}
		if generations = append(generations, m); len(generations) == MaxGenerations {
			break
		}
	}
	for _, m := range generations {
		if m.life.since.Load() <= time {
			return m
		}
	}
	return nil
}
