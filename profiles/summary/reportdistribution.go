package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// How many lines the section of the distribution has at most.
const (
	maxPeers    = 5
	maxMessages = 6
)

// distribution prints what went to and came from other nodes, and which kinds
// of messages make up most of it.
func (r *report) distribution() {
	d := r.Distribution
	if d == nil || len(d.Peers) == 0 {
		return
	}
	note := "as the kernel counts"
	switch {
	case d.Detail == "totals":
	case d.Every > 1:
		note += fmt.Sprintf("; 1 message in %d looked into", d.Every)
	default:
		note += "; every message looked into"
	}
	r.heading("TRAFFIC WITH OTHER NODES", note)
	for _, p := range d.Peers[:min(len(d.Peers), maxPeers)] {
		name := text.Clean(p.Node)
		if name == "" {
			name = "connections too short to be named"
		}
		r.line("  ", r.bold(text.Fit(name, r.style.Width-2, r.ellipsis())))
		r.fit(fmt.Sprintf("    sent %s, received %s", amount(p.SentBytes, p.SentMessages), amount(p.ReceivedBytes, p.ReceivedMessages)))
		if p.UnknownSockets > 0 {
			r.fit(fmt.Sprintf("    without the bytes of %s, whose sockets are not known", plural(p.UnknownSockets, "connection")))
		}
		if shares := workloadShares(p.Workloads); shares != "" {
			r.fit("    for " + shares)
		}
	}
	if more := len(d.Peers) - maxPeers; more > 0 {
		r.fit(fmt.Sprintf("  and %s more", plural(more, "node")))
	}
	for _, m := range d.Messages[:min(len(d.Messages), maxMessages)] {
		what := text.Clean(strings.TrimSpace(m.RequestType + " " + m.Request))
		if what == "" {
			what = "other signals"
		}
		r.fit(fmt.Sprintf("%9s %-8s %s %s %s", size(m.Bytes), m.Direction, text.Clean(m.Destination), r.arrow(), what))
	}
}

// fit prints a line, cut to the page's width.
func (r *report) fit(line string) { r.line(cut(line, r.style.Width, r.ellipsis())) }

func amount(bytes, messages uint64) string {
	if messages == 0 {
		return size(bytes)
	}
	return fmt.Sprintf("%s in %s", size(bytes), plural(messages, "message"))
}

// size writes a number of bytes in units of 1000.
func size(bytes uint64) string {
	value, unit := float64(bytes), 0
	units := [...]string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	for value >= 999.5 && unit < len(units)-1 {
		value /= 1000
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.3g %s", value, units[unit])
}

// workloadShares lists workloads by their share, the largest first.
func workloadShares(shares map[string]float64) string {
	names := slices.Sorted(maps.Keys(shares))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(shares[b], shares[a]) })
	var parts []string
	for _, name := range names {
		if shares[name] >= 0.005 {
			parts = append(parts, fmt.Sprintf("%s %.0f%%", text.Clean(name), 100*bounded(shares[name], 1)))
		}
	}
	return strings.Join(parts, ", ")
}
