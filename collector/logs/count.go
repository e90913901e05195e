package logs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of what is kept of lines.
const (
	maxCombinations = 2000 // of values, per signal and file
	maxListed       = 100  // of these, in a Count
	maxExample      = 300  // bytes
)

// Count is how often a signal was found.
type Count struct {
	Signal   *Signal
	Count    uint64 // in all that was read
	InWindow uint64 // of these, those written between Open and the end of Run
	First    time.Time
	Last     time.Time
	Example  string   // what matched in the first line that was found, without the fields {_}
	Values   []Values // the most frequent first
}

// Values are the values of a signal's fields that came together.
type Values struct {
	Fields   map[string]string
	Count    uint64
	InWindow uint64
}

// counts are a file's counts, by signal.
type counts struct {
	signals []Signal
	counts  []counter
}

// counter counts one signal.
type counter struct {
	count, inWindow uint64
	first, last     time.Time
	example         []byte
	values          map[string]*values // by the joined values
	more            uint64             // lines whose values there was no room for
	runs            map[string]*run    // of signals that are told by repetition
}

type values struct{ count, inWindow uint64 }

// run is a series of lines with the same value.
type run struct {
	value    string
	length   int
	inWindow uint64
	first    time.Time
}

func newCounts(signals []Signal) *counts {
	c := &counts{signals: signals, counts: make([]counter, len(signals))}
	for i := range c.counts {
		c.counts[i].values = map[string]*values{}
		c.counts[i].runs = map[string]*run{}
	}
	return c
}

// entry is a line that a pattern matched.
type entry struct {
	line     []byte
	time     time.Time
	live     bool // written in the window
	pattern  *Pattern
	values   [][2]int // where the pattern's fields are
	start    int      // where the pattern begins
	end      int      // and ends
	combined []byte   // the fields that are kept, as name=value, each followed by a line break
	others   []byte   // those that apart returned last
}

// add counts a line for signal i, and for those that are told by its repetition.
func (c *counts) add(i int, e *entry) {
	c.counts[i].add(e, 1, liveLines(e), e.time)
	for j := range c.signals {
		if c.signals[j].Of == c.signals[i].Name {
			c.repeat(j, e)
		}
	}
}

func liveLines(e *entry) uint64 {
	if e.live {
		return 1
	}
	return 0
}

func (c *counter) add(e *entry, lines, live uint64, first time.Time) {
	if c.count == 0 {
		c.example = exampleOf(e, c.example)
	}
	if c.count == 0 || first.Before(c.first) {
		c.first = first
	}
	if e.time.After(c.last) {
		c.last = e.time
	}
	c.count += lines
	c.inWindow += live
	v := c.values[string(e.combined)]
	if v == nil {
		if len(c.values) >= maxCombinations {
			c.more += lines
			return
		}
		v = &values{}
		c.values[string(e.combined)] = v
	}
	v.count += lines
	v.inWindow += live
}

// repeat counts lines in which a field has the value of the line before, with
// the other fields equal, from the Times-th in a row on.
func (c *counts) repeat(j int, e *entry) {
	value, key := e.apart(c.signals[j].Repeats)
	if value == nil {
		return
	}
	counter := &c.counts[j]
	r := counter.runs[string(key)]
	if r == nil {
		if len(counter.runs) >= maxCombinations {
			return
		}
		r = &run{}
		counter.runs[string(key)] = r
	}
	if r.length == 0 || r.value != string(value) {
		*r = run{value: string(value), first: e.time}
	}
	r.length++
	r.inWindow += liveLines(e)
	switch times := c.signals[j].Times; {
	case r.length == times:
		counter.add(e, uint64(r.length), r.inWindow, r.first)
	case r.length > times:
		counter.add(e, 1, liveLines(e), e.time)
	}
}

// apart returns a field, and the others together; nil if there is no such field.
func (e *entry) apart(name string) (value, others []byte) {
	e.others = e.others[:0]
	for rest := e.combined; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if field := rest[:end]; len(field) > len(name) && field[len(name)] == '=' && string(field[:len(name)]) == name {
			value = field
		} else {
			e.others = append(e.others, field...)
		}
		rest = rest[end:]
	}
	return value, e.others
}

// exampleOf appends what the pattern matched, without what is not to be shown.
// What stands before and behind it is not known, and may name somebody.
func exampleOf(e *entry, to []byte) []byte {
	at := e.start
	for i, name := range e.pattern.fields {
		if name == anyField && i < len(e.values) {
			to = append(append(to, e.line[at:e.values[i][0]]...), '_')
			at = e.values[i][1]
		}
	}
	to = append(to, e.line[at:e.end]...)
	return to[:min(len(to), maxExample)]
}

// combine joins the values that are kept.
func combine(e *entry) {
	e.combined = e.combined[:0]
	for i, name := range e.pattern.fields {
		if name != anyField {
			value := e.line[e.values[i][0]:e.values[i][1]]
			value = bytes.TrimSpace(value[:min(len(value), maxValue)])
			e.combined = append(append(append(append(e.combined, name...), '='), value...), '\n')
		}
	}
}

// result returns what was counted, of the signals that were found.
func (c *counts) result() []Count {
	var found []Count
	for i := range c.counts {
		counter, s := &c.counts[i], &c.signals[i]
		if counter.count == 0 {
			continue
		}
		result := Count{
			Signal: s, Count: counter.count, InWindow: counter.inWindow, First: counter.first, Last: counter.last, Example: string(counter.example),
		}
		for key, v := range counter.values {
			if fields := split(key); len(fields) > 0 {
				result.Values = append(result.Values, Values{fields, v.count, v.inWindow})
			}
		}
		slices.SortFunc(result.Values, func(a, b Values) int {
			return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(fmt.Sprint(a.Fields), fmt.Sprint(b.Fields)))
		})
		result.Values = result.Values[:min(len(result.Values), maxListed)]
		found = append(found, result)
	}
	return found
}

// split is combine's inverse.
func split(combined string) map[string]string {
	fields := map[string]string{}
	for field := range strings.Lines(combined) {
		name, value, _ := strings.Cut(strings.TrimSuffix(field, "\n"), "=")
		fields[name] = value
	}
	return fields
}
