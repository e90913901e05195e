package summary

import (
	"fmt"

	"github.com/beamprof/beamprof/profiles/text"
)

// How many lines the section of the logs has at most.
const maxSignals = 12

// logs prints what was found in the logs.
func (r *report) logs() {
	if r.Logs == nil {
		return
	}
	read := uint64(0)
	for _, f := range r.LogFiles {
		read += f.Lines
	}
	note := fmt.Sprintf("%s read of %s; in the window, and since when", plural(read, "line"), plural(len(r.LogFiles), "file"))
	if len(r.Logs) == 0 {
		note = fmt.Sprintf("%s read of %s: nothing that tells of trouble", plural(read, "line"), plural(len(r.LogFiles), "file"))
	}
	r.heading("LOG", note)
	for _, l := range r.Logs[:min(len(r.Logs), maxSignals)] {
		r.fit(fmt.Sprintf("%8d %8s/s  %-24s since %s, last %s", l.InWindow, decimals(l.PerSecond, 1), text.Clean(l.Signal),
			l.First.UTC().Format("15:04:05"), l.Last.UTC().Format("15:04:05")))
		if l.Example != "" {
			r.line("           ", r.paint(ansiDim, r.shorten(l.Example, 11)))
		}
	}
}
