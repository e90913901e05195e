package jit

import (
	"cmp"
	"container/heap"
	"slices"
)

// index is one state of all that Lookup and Contains read. It never changes:
// a refresh makes another one.
type index struct {
	version  uint64
	segments []segment // by start, without overlap
	code     regions
	counts   counts
}

// counts are what Stats returns.
type counts struct{ entries, ranges, lines, unreadable int }

// segment is a range of addresses and what was there, the newest first.
type segment struct {
	start, end uint64
	newest     *generation
}

// generation is a module that is, or was, at the addresses of a segment.
// Segments share the tails of their lists.
type generation struct {
	module *module
	older  *generation
	depth  int // number of older ones
}

// at returns the module that was there at a time.
func (g *generation) at(at uint64) *module {
	var possible *module
	for ; g != nil; g = g.older {
		life := g.module.life
		if life.since.Load() <= at {
			if until := life.until.Load(); until != 0 && until <= at {
				break
			}
			return g.module
		}
		if life.after <= at {
			possible = g.module
		}
	}
	return possible
}

// over returns the list with a newer module. At most MaxGenerations are kept.
func (g *generation) over(m *module) *generation {
	if g == nil {
		return &generation{module: m}
	}
	if g.depth >= MaxGenerations-1 {
		g = g.newest(MaxGenerations - 1)
	}
	return &generation{module: m, older: g, depth: g.depth + 1}
}

// under returns the list with all of a newer one.
func (g *generation) under(newer *generation) *generation {
	if newer == nil {
		return g
	}
	return g.under(newer.older).over(newer.module)
}

// equal tells whether two lists have the same modules.
func (g *generation) equal(other *generation) bool {
	for ; g != nil && other != nil; g, other = g.older, other.older {
		if g == other {
			return true
		}
		if g.module != other.module {
			return false
		}
	}
	return g == other
}

// newest returns a copy of the list cut to n.
func (g *generation) newest(n int) *generation {
	if n == 1 || g.older == nil {
		return &generation{module: g.module}
	}
	older := g.older.newest(n - 1)
	return &generation{module: g.module, older: older, depth: older.depth + 1}
}

// generations returns what is, and was, at pc.
func (x *index) generations(pc uint64) *generation {
	low, high := 0, len(x.segments) // the first segment that starts behind pc
	for low < high {
		middle := int(uint(low+high) >> 1)
		if x.segments[middle].start <= pc {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 || pc >= x.segments[low-1].end {
		return nil
	}
	return x.segments[low-1].newest
}

// with returns the index with modules added that were registered since, the
// newest first.
func (x *index) with(added []*module, c counts) *index {
	return &index{
		version:  x.version + 1,
		segments: overlay(x.segments, layer(added)),
		code:     x.code.with(added),
		counts:   c,
	}
}

// held returns the bytes of the symfiles of all modules that Lookup can find.
func (x *index) held() (bytes int) {
	seen := make(map[*module]bool)
	for _, s := range x.segments {
		for g := s.newest; g != nil; g = g.older {
			if !seen[g.module] {
				seen[g.module] = true
				bytes += len(g.module.symfile)
			}
		}
	}
	return bytes
}

// byRank is a heap of modules, the newest (lowest rank) on top.
type byRank []ranked

type ranked struct {
	rank   int
	module *module
}

func (h byRank) Len() int           { return len(h) }
func (h byRank) Less(i, j int) bool { return h[i].rank < h[j].rank }
func (h byRank) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byRank) Push(x any)        { *h = append(*h, x.(ranked)) }
func (h *byRank) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// layer returns the addresses that modules cover, each with those there, but for
// those that came at the same time as a newer one: no time finds them.
func layer(newestFirst []*module) []segment {
	var starts []ranked
	var points []uint64 // where a module starts or ends
	for rank, m := range newestFirst {
		if start, end := m.bounds(); start < end {
			starts = append(starts, ranked{rank, m})
			points = append(points, start, end)
		}
	}
	slices.SortFunc(starts, func(a, b ranked) int { return cmp.Compare(a.module.extents[0], b.module.extents[0]) })
	slices.Sort(points)
	points = slices.Compact(points)
	var segments []segment
	var here byRank // those that start at or before the point; ended ones may remain
	for i, point := range points {
		for len(starts) > 0 && starts[0].module.extents[0] == point {
			heap.Push(&here, starts[0])
			starts = starts[1:]
		}
		newest := here.at(point)
		if newest == nil {
			continue
		}
		if n := len(segments); n > 0 && segments[n-1].end == point && segments[n-1].newest.equal(newest) {
			segments[n-1].end = points[i+1]
			continue
		}
		segments = append(segments, segment{point, points[i+1], newest})
	}
	return segments
}

// maxOverlap bounds how many modules of one look are considered at one place.
const maxOverlap = 4 * MaxGenerations

// at returns the modules of the heap at a point, and drops some that ended.
func (h *byRank) at(point uint64) *generation {
	var top []ranked // the newest first
	for len(*h) > 0 && len(top) < maxOverlap {
		r := heap.Pop(h).(ranked)
		if _, end := r.module.bounds(); end > point {
			top = append(top, r)
		}
	}
	var newest *generation
	for i, r := range slices.Backward(top) {
		heap.Push(h, r)
		if i > 0 && top[i-1].module.life.since.Load() == r.module.life.since.Load() {
			continue // the newer one is found
		}
		newest = newest.over(r.module)
	}
	return newest
}

// overlay puts the segments of a layer over older ones.
func overlay(old, layer []segment) []segment {
	result := make([]segment, 0, len(old)+2*len(layer))
	emit := func(start, end uint64, newest *generation) {
		if n := len(result); n > 0 && result[n-1].end == start && result[n-1].newest == newest {
			result[n-1].end = end
			return
		}
		result = append(result, segment{start, end, newest})
	}
	old, layer = slices.Clone(old), slices.Clone(layer) // starts move below
	for len(old) > 0 && len(layer) > 0 {
		a, b := &old[0], &layer[0]
		switch {
		case a.start < b.start:
			end := min(a.end, b.start)
			emit(a.start, end, a.newest)
			a.start = end
		case b.start < a.start:
			end := min(b.end, a.start)
			emit(b.start, end, b.newest)
			b.start = end
		default:
			end := min(a.end, b.end)
			emit(a.start, end, a.newest.under(b.newest))
			a.start, b.start = end, end
		}
		if a.start == a.end {
			old = old[1:]
		}
		if b.start == b.end {
			layer = layer[1:]
		}
	}
	for _, s := range append(old, layer...) {
		emit(s.start, s.end, s.newest)
	}
	return result
}
