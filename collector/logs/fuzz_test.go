package logs

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// FuzzRead: whatever a log holds, in whatever pieces it is read, no more lines
// are counted than there are, and what is kept of them is bounded.
func FuzzRead(f *testing.F) {
	f.Add([]byte(unknownLine+aeLine(1, 2, 3)+failedLine), uint16(50))
	f.Add([]byte(unknown2+otherLine+"\xff\x00\r\n"), uint16(1))
	f.Add([]byte(strings.Repeat(aeLine(1, 1, 1), 5)), uint16(7))
	f.Add([]byte("can't register client  with username  due to can't register client "), uint16(9))
	found := signals(f)
	l := newLines(found)
	f.Fuzz(func(t *testing.T, data []byte, piece uint16) {
		whole, pieces := &file{counts: newCounts(found)}, &file{counts: newCounts(found)}
		m := moment{live: true, now: time.Unix(1000, 0)}
		whole.take(bytes.Clone(data), l, m)
		for at, n := 0, int(piece)%1000+1; at < len(data); at += n {
			part := append(bytes.Clone(pieces.partial), data[at:min(len(data), at+n)]...)
			pieces.take(part, l, m)
		}
		lines := uint64(bytes.Count(data, []byte{'\n'})) + 1
		short := true
		for line := range bytes.Lines(data) {
			short = short && len(line) <= maxLine
		}
		for i, c := range whole.counts.result() {
			if c.Count == 0 || c.Count > lines || c.InWindow > c.Count || len(c.Example) > maxExample || len(c.Values) > maxListed {
				t.Errorf("%+v of %d lines", c, lines)
			}
			for _, v := range c.Values {
				for name, value := range v.Fields {
					if len(value) > maxValue || strings.Contains(value, "\n") || name == "" {
						t.Errorf("%q: %q", name, value)
					}
				}
			}
			if other := pieces.counts.result(); short && (len(other) <= i || other[i].Count != c.Count) {
				t.Errorf("%+v whole, %+v in pieces", c, other)
			}
		}
	})
}

// FuzzPattern: a pattern that is accepted is found in the line that it was made of.
func FuzzPattern(f *testing.F) {
	f.Add("Replica {group}: AE exchange with {peer} synced {count} objects", "x")
	f.Add("state is {{{state},x}} now {rest}", "a b")
	f.Add("long enough {_}", "")
	f.Fuzz(func(t *testing.T, text, value string) {
		p, err := ParsePattern(text)
		if err != nil {
			return
		}
		if !p.Covers(p) || p.String() != text {
			t.Errorf("%q does not cover itself", text)
		}
		var line strings.Builder
		for i, l := range p.literals {
			line.WriteString(l)
			if i < len(p.fields) {
				line.WriteString(value)
			}
		}
		start, end, values := p.match([]byte(line.String()), 0, nil)
		if start < 0 || end < start || end > line.Len() || len(values) != len(p.fields) {
			t.Errorf("%q is not found in %q: %d, %v", text, line.String(), start, values)
		}
		for i, v := range values {
			if v[0] > v[1] || v[1] > line.Len() || i > 0 && values[i-1][1] > v[0] {
				t.Errorf("%v", values)
			}
		}
		if at, _ := newSearch([]string{p.anchor()}).next([]byte(line.String()), 0); at < 0 {
			t.Error("the anchor is not found")
		}
	})
}

func FuzzStamp(f *testing.F) {
	f.Add([]byte(unknownLine))
	f.Add([]byte(unknown2))
	f.Fuzz(func(t *testing.T, line []byte) {
		if s, ok := parseStamp(line); ok {
			if s.time.Year() < 1969 || s.time.Year() > 10_000 {
				t.Errorf("%q: %v", line, s.time)
			}
			var c clock
			c.calibrate(s, time.Unix(0, 0))
			if c.offset.Abs() > maxZone {
				t.Errorf("%q: %v", line, c.offset)
			}
		}
	})
}
