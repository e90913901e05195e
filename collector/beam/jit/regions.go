package jit

import (
	"cmp"
	"slices"
)

// blockGap is the gap between pieces of code up to which they count as one
// block. The VM allocates code in blocks of some MiB at any address.
const blockGap = 1 << 16

// regions is a set of addresses. Almost all that is asked for is in none of
// the few blocks, so these are looked at first.
type regions struct {
	low, size uint64   // of all
	blocks    []uint64 // start, end, start, ...: regions with gaps below blockGap
	exact     []uint64 // start, end, start, ...
}

// contains is called for each word of every stack.
func (r *regions) contains(address uint64) bool {
	if address-r.low >= r.size {
		return false
	}
	return within(r.blocks, address) && within(r.exact, address)
}

// within tells whether an address is in one of the sorted intervals: the
// number of bounds up to the address is odd then.
func within(bounds []uint64, address uint64) bool {
	low, high := 0, len(bounds)
	for low < high {
		middle := int(uint(low+high) >> 1)
		if bounds[middle] <= address {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low&1 == 1
}

// with returns the set with the code of modules added.
func (r *regions) with(added []*module) regions {
	type interval struct{ start, end uint64 }
	var all []interval
	for i := 0; i < len(r.exact); i += 2 {
		all = append(all, interval{r.exact[i], r.exact[i+1]})
	}
	for _, m := range added {
		for i := 0; i < len(m.extents); i += 2 {
			all = append(all, interval{m.extents[i], m.extents[i+1]})
		}
	}
	if len(all) == 0 {
		return regions{}
	}
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.start, b.start) })
	var result regions
	for _, i := range all {
		result.exact = join(result.exact, i.start, i.end, 0)
		result.blocks = join(result.blocks, i.start, i.end, blockGap)
	}
	result.low = result.exact[0]
	result.size = result.exact[len(result.exact)-1] - result.low
	return result
}

// join appends an interval that starts not before the last one, or makes the
// last one longer if the gap between them is not larger than gap.
func join(bounds []uint64, start, end, gap uint64) []uint64 {
	if n := len(bounds); n > 0 && (start <= bounds[n-1] || start-bounds[n-1] <= gap) {
		bounds[n-1] = max(bounds[n-1], end)
		return bounds
	}
	return append(bounds, start, end)
}
