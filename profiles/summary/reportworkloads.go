package summary

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// workloads prints what the CPU time was spent for. The VM's own overhead stands
// apart: the notes tell the other shares without it.
func (r *report) workloads() {
	if len(r.Workloads) == 0 {
		return
	}
	r.heading("FOR WHAT", "by the rules "+text.Clean(r.Rules)+"; without the VM's overhead, and by which evidence")
	var rows []row
	rest := row{name: "other workloads"}
	for _, w := range r.Workloads {
		if w.Share < minShare {
			continue
		}
		last := w.Name == attribution.VM || w.Name == attribution.Unattributed
		if len(rows) >= r.limit(maxWorkloads)-2 && !last {
			rest.seconds += w.Seconds
			rest.share += w.Share
			continue
		}
		rows = append(rows, row{w.Seconds, w.Share, text.Clean(w.Name), workloadNote(w)})
	}
	if rest.share >= minShare {
		rows = append(rows, rest)
	}
	r.rows(rows, false)
}

func workloadNote(w Workload) string {
	switch w.Name {
	case attribution.VM:
		return "the VM's own overhead"
	case attribution.Unattributed:
		return fmt.Sprintf("%4.1f%%", 100*bounded(w.WithoutVM, 99))
	}
	type part struct {
		basis   string
		seconds float64
	}
	var parts []part
	for _, basis := range slices.Sorted(maps.Keys(w.Basis)) {
		parts = append(parts, part{text.Clean(basis), w.Basis[basis]})
	}
	slices.SortStableFunc(parts, func(a, b part) int { return cmp.Compare(b.seconds, a.seconds) })
	var notes []string
	for _, p := range parts {
		if share := p.seconds / w.Seconds; share >= 0.005 {
			notes = append(notes, fmt.Sprintf("%s %.0f%%", p.basis, 100*bounded(share, 1)))
		}
	}
	return fmt.Sprintf("%4.1f%%  %s", 100*bounded(w.WithoutVM, 99), strings.Join(notes, ", "))
}

// unattributed says what no workload was found for, if that is worth a look.
func (r *report) unattributed() {
	var rows []row
	for _, u := range r.Unattributed[:min(len(r.Unattributed), maxUnattributed)] {
		if u.Share >= minUnattributed {
			rows = append(rows, row{u.Seconds, u.Share, text.Clean(u.Name), text.Clean(u.Reason)})
		}
	}
	if len(rows) > 0 {
		r.heading("NOT ATTRIBUTED", "and why; rules of your own can tell: beamprof rules show")
		r.rows(rows, false)
	}
}

// minUnattributed is the least share of all CPU time that is worth a line there.
const minUnattributed = 0.001
