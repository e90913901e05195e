// Package text prepares strings that were read from a target's memory for
// people: names of processes, functions and nodes are whatever the target
// made them, and must not be able to steer a terminal or break a table.
package text

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
)

// Clean returns s as valid UTF-8 without anything that does not print:
// control characters, escape sequences' introducers, line breaks and the
// invisible characters that reorder text become U+FFFD.
func Clean(s string) string {
	if isClean(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for _, r := range s { // an invalid byte yields utf8.RuneError
		if !strconv.IsPrint(r) {
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

func isClean(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < ' ' || s[i] > '~' {
			return isCleanUnicode(s[i:])
		}
	}
	return true
}

func isCleanUnicode(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !strconv.IsPrint(r) {
			return false
		}
	}
	return true
}

// Width returns the number of terminal columns s takes.
func Width(s string) int { return runewidth.StringWidth(s) }

// Fit cuts s to at most width columns. The middle goes, as the ends of a
// function's name (module, arity) tell more; ellipsis stands in its place.
func Fit(s string, width int, ellipsis string) string {
	if Width(s) <= width {
		return s
	}
	room := width - Width(ellipsis)
	if room <= 0 {
		return runewidth.Truncate(s, max(width, 0), "")
	}
	head := runewidth.Truncate(s, room/2, "")
	tail := runewidth.TruncateLeft(s, Width(s)-(room-Width(head)), "")
	return head + ellipsis + tail
}

// Pad appends blanks to s up to width columns.
func Pad(s string, width int) string {
	if missing := width - Width(s); missing > 0 {
		return s + strings.Repeat(" ", missing)
	}
	return s
}
