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
	entry    entry      // used again
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
		at := l.search.first(data)
		if at < 0 {
			return
		}
		begin := bytes.LastIndexByte(data[:at], '\n') + 1
		end := len(data)
		if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
			end = at + i
		}
		l.line(data[begin:min(end, begin+maxLine)], m, clock, counts)
		data = data[end:]
	}
}

func (l *lines) line(line []byte, m moment, clock *clock, counts *counts) {
	e := &l.entry
	line = bytes.TrimRight(line, "\r")
	found, best := -1, len(line)
	var pattern *Pattern
	for candidates := l.search.all(line); candidates != 0; candidates &= candidates - 1 {
		i := bits.TrailingZeros64(candidates)
		start, values := l.patterns[i].match(line, e.values)
		e.values = values
		if start >= 0 && start < best {
			found, best, pattern = i, start, l.patterns[i]
		}
	}
	if found < 0 {
		return
	}
	e.line, e.pattern, e.live, e.time = line, pattern, m.live, m.now
	_, e.values = pattern.match(line, e.values)
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
