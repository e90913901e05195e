package sampler

import (
	"slices"

	"github.com/beamprof/beamprof/collector"
)

// Recursion that repeats more often than foldKeep times is folded: the first
// repetitions stay, one marker frame stands for the rest. Cycles of up to
// foldPeriod frames are seen as recursion (mutual recursion has longer ones).
const (
	foldKeep   = 4
	foldPeriod = 6
)

// fold folds recursion in a stack of Erlang frames, leaf first, in place.
func fold(stack []*collector.Frame, folded func(*collector.Frame) *collector.Frame) []*collector.Frame {
	out := stack[:0]
	for i := 0; i < len(stack); {
		period, repeats := recursion(stack[i:])
		if repeats <= foldKeep {
			out = append(out, stack[i])
			i++
			continue
		}
		// out never overtakes i: what is appended is shorter than what is skipped.
		first := stack[i]
		out = append(out, stack[i:i+period*foldKeep]...)
		out = append(out, folded(first))
		i += period * repeats
	}
	return out
}

// recursion returns the shortest period with which the start of the stack
// repeats more than foldKeep times, and how often it does; 0, 0 if none does.
func recursion(stack []*collector.Frame) (period, repeats int) {
	for period = 1; period <= foldPeriod && period*(foldKeep+1) <= len(stack); period++ {
		same := period
		for same < len(stack) && stack[same] == stack[same-period] {
			same++
		}
		if repeats = same / period; repeats > foldKeep {
			return period, repeats
		}
	}
	return 0, 0
}

// goesOn tells whether the recursion that the upper part of a stack ends in goes
// on in the lower part, with frames missing between them. skip is the number of
// frames of the lower part before a cycle begins there.
func goesOn(upper, lower []*collector.Frame) (skip int, ok bool) {
	for period := 1; period <= foldPeriod && period*(foldKeep+1) <= len(upper); period++ {
		tail := upper[len(upper)-period*(foldKeep+1):]
		if !slices.Equal(tail[period:], tail[:len(tail)-period]) {
			continue
		}
		cycle := tail[:period]
		for skip = 0; skip < period && skip+period <= len(lower); skip++ {
			if slices.Equal(lower[skip:skip+period], cycle) {
				return skip, true
			}
		}
	}
	return 0, false
}
