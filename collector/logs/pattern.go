package logs

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Bounds of a pattern. A literal part is what lines are searched for, so that
// short ones alone would be found everywhere.
const (
	maxPattern  = 256 // bytes
	maxFields   = 8
	minLiteral  = 8   // bytes of the longest literal part, at least
	maxValue    = 120 // bytes of a field that are kept
	anyField    = "_"
	maxPatterns = maxTexts // in all signals
)

// Pattern is text that lines are searched for, with fields in it:
//
//	Replica {group}: AE exchange with {peer} synced {count} objects
//
// A field stands for any text, as short as possible; the last one, if nothing
// follows it, for the rest of the line. {_} is a field that is not kept, nor
// shown in an example. {{ and }} are braces.
type Pattern struct {
	text     string
	literals []string // literals[i] stands before fields[i]; there may be one more
	bytes    [][]byte // the same
	fields   []string
}

// String returns the pattern as it was written.
func (p *Pattern) String() string { return p.text }

// Fields returns the names of the fields that are kept, in their order.
func (p *Pattern) Fields() []string {
	var names []string
	for _, name := range p.fields {
		if name != anyField {
			names = append(names, name)
		}
	}
	return names
}

var fieldName = regexp.MustCompile(`^([a-z][a-z0-9_]{0,29}|_)$`)

// ParsePattern reads a pattern.
func ParsePattern(text string) (*Pattern, error) {
	if len(text) > maxPattern {
		return nil, fmt.Errorf("longer than %d bytes", maxPattern)
	}
	p := &Pattern{text: text}
	var literal strings.Builder
	for rest := text; rest != ""; {
		switch {
		case strings.HasPrefix(rest, "{{"), strings.HasPrefix(rest, "}}"):
			literal.WriteByte(rest[0])
			rest = rest[2:]
		case rest[0] == '}':
			return nil, fmt.Errorf("a } without its {: write }} for the character")
		case rest[0] == '{':
			name, after, closed := strings.Cut(rest[1:], "}")
			if !closed || !fieldName.MatchString(name) {
				return nil, fmt.Errorf("{%s: a field is {name}, in lower-case letters, digits and _; write {{ for the character", cutTo(name, 30))
			}
			if literal.Len() == 0 {
				return nil, fmt.Errorf("no text before the field {%s}", name)
			}
			p.literals, p.fields = append(p.literals, literal.String()), append(p.fields, name)
			literal.Reset()
			rest = after
		case rest[0] < ' ' || rest[0] == 0x7f:
			return nil, fmt.Errorf("a control character: patterns are for single lines")
		default:
			literal.WriteByte(rest[0])
			rest = rest[1:]
		}
	}
	if literal.Len() > 0 {
		p.literals = append(p.literals, literal.String())
	}
	for _, l := range p.literals {
		p.bytes = append(p.bytes, []byte(l))
	}
	return p, p.check()
}

func (p *Pattern) check() error {
	if len(p.fields) > maxFields {
		return fmt.Errorf("more than %d fields", maxFields)
	}
	seen := map[string]bool{}
	for _, name := range p.Fields() {
		if seen[name] {
			return fmt.Errorf("the field {%s} stands twice", name)
		}
		seen[name] = true
	}
	if len(p.anchor()) < minLiteral {
		return fmt.Errorf("no literal part of at least %d characters to search for", minLiteral)
	}
	return nil
}

// anchor returns the literal part that lines are searched for: the first, or
// the longest if that is too short.
func (p *Pattern) anchor() string {
	longest := ""
	if len(p.literals) > 0 && len(p.literals[0]) >= minLiteral {
		return p.literals[0]
	}
	for _, l := range p.literals {
		if len(l) > len(longest) {
			longest = l
		}
	}
	return longest
}

// Covers tells whether p is found wherever q is, and begins no later, as far as
// their texts show: p's literal parts stand in q's, in their order.
func (p *Pattern) Covers(q *Pattern) bool {
	if !strings.HasPrefix(q.literals[0], p.literals[0]) {
		return false
	}
	part, from := 0, 0
	for _, l := range p.literals {
		for {
			if part == len(q.literals) {
				return false
			}
			if at := strings.Index(q.literals[part][from:], l); at >= 0 {
				from += at + len(l)
				break
			}
			part, from = part+1, 0
		}
	}
	return true
}

// match finds the pattern in a line, from a place on: where it begins and ends,
// and where each field does. values is used again. start is -1 if it is not there.
func (p *Pattern) match(line []byte, at int, values [][2]int) (start, end int, _ [][2]int) {
	values = values[:0]
	for i, l := range p.bytes {
		found := bytes.Index(line[at:], l)
		if found < 0 {
			return -1, -1, values
		}
		found += at
		if i == 0 {
			start = found
		} else {
			values = append(values, [2]int{at, found})
		}
		at = found + len(l)
	}
	if len(values) < len(p.fields) {
		values = append(values, [2]int{at, len(line)})
		at = len(line)
	}
	return start, at, values
}

func cutTo(s string, n int) string { return s[:min(len(s), n)] }
