package main

import (
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/beamprof/beamprof/profiles/summary"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// styleFor returns how a report may look where it goes to.
func styleFor(w io.Writer) summary.Style {
	style := summary.Style{Unicode: unicodeLocale()}
	if f, ok := terminal(w); ok {
		style.Color = colorAllowed()
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			style.Width = width
		}
	}
	return style
}

// unicodeLocale tells whether the user's locale has UTF-8 (locale(7): the
// first of these variables that is set counts).
func unicodeLocale() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := os.Getenv(name); value != "" {
			value = strings.ToUpper(value)
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}
