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
	stamps   stamps
	entry    entry // used again, as is other
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
	for from := 0; ; {
		at, which := l.search.next(data, from)
		if at < 0 {
			return
		}
		begin := from + lastBreak(data[from:at]) + 1
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i
		}
		if last := min(end, begin+maxLine); at < last {
			l.line(data[begin:last], at-begin, which, m, clock, counts)
		}
		from = min(end+1, len(data))
	}
}

// lastBreak returns where the last line break is, or -1. Most often there is none
// where one line after the other tells of something, and looking ahead is faster.
func lastBreak(data []byte) int {
	if bytes.IndexByte(data, '\n') < 0 {
		return -1
	}
	return bytes.LastIndexByte(data, '\n')
}

// line counts a line in which the first anchors begin at a place.
func (l *lines) line(line []byte, at int, which uint64, m moment, clock *clock, counts *counts) {
	e := &l.entry
	line = bytes.TrimSuffix(line, []byte("\r"))
	found := l.find(line, at, which)
	if found < 0 {
		return
	}
	e.line, e.pattern, e.live, e.time = line, l.patterns[found], m.live, m.now
	if s, ok := l.stamps.parse(line); ok {
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

// find returns which pattern begins first in a line in which the first anchors
// begin at a place; -1 if none is there. Where patterns begin with their anchors,
// what has a later anchor begins later.
func (l *lines) find(line []byte, at int, which uint64) int {
	var all uint64
	for ; at >= 0; at, which = l.search.next(line, at+1) {
		if all |= which; l.late {
			continue
		}
		if found := l.first(line, at, which); found >= 0 {
			return found
		}
	}
	if !l.late {
		return -1
	}
	return l.first(line, 0, all)
}

// first returns which of some patterns begins first in a line, from a place on,
// and leaves its fields in the entry; -1 if none is there.
func (l *lines) first(line []byte, from int, candidates uint64) int {
	found, best := -1, len(line)
	for ; candidates != 0; candidates &= candidates - 1 {
		i := bits.TrailingZeros64(candidates)
		start, end, values := l.patterns[i].match(line, from, l.other)
		l.other = values
		if start >= 0 && start < best {
			found, best = i, start
			l.entry.start, l.entry.end = start, end
			l.entry.values, l.other = l.other, l.entry.values
		}
	}
	return found
}
