package summary

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// How much a line of the brief lists at most.
const (
	briefListeners = 2
	briefSignals   = 4
	briefPeers     = 2
)

// brief prints, in a line or two each, what else was seen beside the CPU time.
func (r *report) brief() {
	var lines [][2]string
	for _, l := range r.briefListeners() {
		what := fmt.Sprintf("%s: %s/s, %s", l.name(), decimals(l.OpenedPerSecond, 1), l.closed())
		lines = append(lines, [2]string{"Clients", what})
	}
	if busiest := r.busiest(); busiest != "" {
		lines = append(lines, [2]string{"Busiest", busiest})
	}
	if r.Logs != nil {
		lines = append(lines, [2]string{"Log", r.briefLog()})
	}
	if d := r.Distribution; d != nil {
		for _, p := range d.Peers[:min(len(d.Peers), briefPeers)] {
			lines = append(lines, [2]string{"Traffic", fmt.Sprintf("%s: sent %s, received %s", text.Clean(cmp.Or(p.Node, "unnamed")), size(p.SentBytes), size(p.ReceivedBytes))})
		}
	}
	if len(lines) > 0 {
		r.line()
	}
	for i, l := range lines {
		label := l[0]
		if i > 0 && lines[i-1][0] == label {
			label = ""
		}
		r.line(r.bold(text.Pad(label, labelWidth)), r.shorten(l[1], labelWidth))
	}
}

// busiest says who connects most, if anybody came back.
func (r *report) busiest() string {
	c := r.Connections
	if c == nil {
		return ""
	}
	var who []string
	if len(c.Remotes) > 0 && c.Remotes[0].Opened > 1 {
		who = append(who, fmt.Sprintf("%s, %s", text.Clean(c.Remotes[0].Address), plural(c.Remotes[0].Opened, "connection")))
	}
	if len(c.Clients) > 0 && c.Clients[0].Connects > 1 {
		who = append(who, fmt.Sprintf("client id %s, %s", text.Clean(c.Clients[0].ID), plural(c.Clients[0].Connects, "CONNECT")))
	}
	return strings.Join(who, "; ")
}

// briefListeners returns the busiest listeners of clients.
func (r *report) briefListeners() []Listener {
	if r.Connections == nil {
		return nil
	}
	busiest := slices.DeleteFunc(slices.Clone(r.Connections.Listeners), func(l Listener) bool { return l.OfNodes() || l.Opened+l.Closed == 0 })
	slices.SortStableFunc(busiest, func(a, b Listener) int { return cmp.Compare(b.Opened+b.Closed, a.Opened+a.Closed) })
	return busiest[:min(len(busiest), briefListeners)]
}

func (r *report) briefLog() string {
	var found []string
	for _, l := range r.Logs {
		if l.InWindow > 0 && len(found) < briefSignals {
			found = append(found, fmt.Sprintf("%s %d", text.Clean(l.Signal), l.InWindow))
		}
	}
	if len(found) == 0 {
		return "nothing that tells of trouble in this window"
	}
	return strings.Join(found, ", ")
}

// next says where there is more, ready to be copied.
func (r *report) next(profile string) {
	if r.Connections == nil && r.Logs == nil && r.Distribution == nil {
		r.line()
	}
	r.line(r.bold(text.Pad("More", labelWidth)), "beamprof report --all ", quote(filepath.Dir(profile)))
	r.line(r.bold(text.Pad("", labelWidth)), "go tool pprof -http=localhost:8081 ", quote(profile))
}
