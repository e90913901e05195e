package summary

import (
	"regexp"
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// further prints the commands that go on from here, ready to be copied: lines
// are not broken.
func (r *report) further(profile string) {
	commands := [][2]string{
		{"flame graph", `go tool pprof -http=localhost:8081 "$P"`},
		{"all labels", `go tool pprof -tags "$P"`},
		{"functions", `go tool pprof -top -cum "$P"`},
		{"by process", `go tool pprof -top -cum -tagroot=process_kind,request "$P"`},
	}
	if kind := r.focus(); kind != "" {
		filter := quote("-tagfocus=process_kind=^" + regexp.QuoteMeta(kind) + "$")
		commands = append(commands, [2]string{"the busiest", `go tool pprof -traces ` + filter + ` "$P"`})
	}
	r.heading("DIG FURTHER", "with Go's pprof, here or on another machine")
	r.line("  P=", quote(profile))
	for _, c := range commands {
		r.line("  ", r.paint(ansiDim, text.Pad(c[0], 11)), "  ", c[1])
	}
}

// focus returns the busiest kind of processes, if pprof's label filter can
// name it: a comma separates filters there.
func (r *report) focus() string {
	if len(r.ProcessKinds) == 0 {
		return ""
	}
	kind := r.ProcessKinds[0].Kind
	if kind == "" || strings.Contains(kind, ",") || text.Clean(kind) != kind {
		return ""
	}
	return kind
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quote makes s one word for a POSIX shell.
func quote(s string) string {
	s = text.Clean(s)
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
