package attribution

import "strings"

// pattern is text in which each * stands for any characters, also none.
type pattern string

// matches tells whether the whole of s is as the pattern says.
func (p pattern) matches(s string) bool {
	head, rest, wild := strings.Cut(string(p), "*")
	if !wild {
		return s == string(p)
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s, rest = s[at+len(part):], after
	}
}

// covers tells whether all that q matches p matches too. A * is no character of
// what patterns are compared with, so that only a * of p can stand for one of q.
func (p pattern) covers(q pattern) bool { return p.matches(string(q)) }

// covered tells whether all that the pattern q matches some pattern of a list does.
func covered(q pattern, by []pattern) bool {
	for _, p := range by {
		if p.covers(q) {
			return true
		}
	}
	return false
}
