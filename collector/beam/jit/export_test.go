package jit

import "iter"

// Clean is clean.
var Clean = clean

// Functions yields all that is found at the present time.
func Functions(t *Table) iter.Seq[Function] {
	return func(yield func(Function) bool) {
		for _, s := range t.index.Load().segments {
			m := s.newest.module
			for _, r := range m.ranges {
				if f, ok := m.function(m.base + uint64(r.start)); ok && !yield(f) {
					return
				}
			}
		}
	}
}
