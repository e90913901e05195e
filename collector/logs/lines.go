package logs

import (
	"bytes"
	"math/bits"
	"time"
)

// maxLine bounds how much of a line is looked at.
const maxLine = 8 << 10

// lines finds signals in whole lines.
type lines struct {
	search   *search
	patterns []*Pattern // by the bit of their anchor
	signals  []int      // of each pattern
	late     bool       // some pattern begins before its anchor
	entry    entry      // used again, as is other
	other    [][2]int
}

func newLines(signals []Signal) *lines {
	l := &lines{}
	var anchors []string
	for i := range signals {
		for _, p := range signals[i].Patterns {
			if len(l.patterns) == maxPatterns {
				panic("logs: more than 64 patterns")
			}
			l.patterns, l.signals = append(l.patterns, p), append(l.signals, i)
			anchors = append(anchors, p.anchor())
			l.late = l.late || p.anchor() != p.literals[0]
		}
	}
	l.search = newSearch(anchors)
	return l
}

// moment says when lines were written.
type moment struct {
	live  bool      // in the window; if not, before it
	since time.Time // lines with an earlier stamp are not counted
	now   time.Time // for lines without a stamp
}

// read counts the signals in whole lines. Each line counts once, for the
// pattern that begins first in it: what follows may be text of a client's.
func (l *lines) read(data []byte, m moment, clock *clock, counts *counts) {
	for {
		at, state := l.search.first(data)
		if at < 0 {
			return
		}
		begin := bytes.LastIndexByte(data[:at], '\n') + 1
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i
		}
		if last := min(end, begin+maxLine); at < last {
			l.line(data[begin:last], at-begin, state, m, clock, counts)
		}
		data = data[end:]
	}
}

// line counts a line in which the first anchor ends at a place, with this state
// of the search. What begins with a later anchor begins later, so that the rest
// is searched only if it may make a difference.
func (l *lines) line(line []byte, at int, state uint32, m moment, clock *clock, counts *counts) {
	e := &l.entry
	after := line[at+1:]
	line = bytes.TrimSuffix(line, []byte("\r"))
	found := l.first(line, l.search.rest(state, nil))
	if found < 0 || l.late {
		found = l.first(line, l.search.rest(state, after))
	}
	if found < 0 {
		return
	}
	e.line, e.pattern, e.live, e.time = line, l.patterns[found], m.live, m.now
	if s, ok := parseStamp(line); ok {
		if m.live {
			clock.calibrate(s, m.now)
		}
		e.time = clock.time(s)
	}
	if e.time.Before(m.since) {
		return
	}
	combine(e)
	counts.add(l.signals[found], e)
}

// first returns which of some patterns begins first in a line, and leaves its
// fields in the entry; -1 if none is there.
func (l *lines) first(line []byte, candidates uint64) int {
	found, best := -1, len(line)
	for ; candidates != 0; candidates &= candidates - 1 {
		i := bits.TrailingZeros64(candidates)
		start, end, values := l.patterns[i].match(line, l.other)
		l.other = values
		if start >= 0 && start < best {
			found, best = i, start
			l.entry.start, l.entry.end = start, end
			l.entry.values, l.other = l.other, l.entry.values
		}
	}
	return found
}
