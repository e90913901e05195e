package summary

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// How many lines the parts of a cluster's report have at most.
const (
	maxNodes   = 6
	maxHopping = 5
)

// Report prints the cluster as text for people: one diagnosis of all nodes, and
// what their evidence is together. profiles are the paths of their CPU
// profiles, empty where there is none.
func (c *Cluster) Report(w io.Writer, style Style, profiles []string) error {
	r := report{Summary: &Summary{Diagnosis: c.Diagnosis}, page: page{style: style.bounded()}, nodes: len(c.Nodes)}
	r.line(r.bold(fmt.Sprintf("A cluster: %s", plural(len(c.Nodes), "node"))))
	for _, warning := range c.Warnings {
		r.warning(text.Clean(warning))
	}
	r.diagnosis()
	r.heading("NODES", "what they spend their CPU time for, without the VM's overhead")
	for _, n := range c.Nodes[:min(len(c.Nodes), maxNodes)] {
		r.node(n)
	}
	if more := len(c.Nodes) - maxNodes; more > 0 {
		r.fit(fmt.Sprintf("  and %s more", plural(more, "node")))
	}
	if len(c.Clients) > 0 {
		r.heading("CLIENTS ON SEVERAL NODES", fmt.Sprintf("%s of the busiest", plural(len(c.Clients), "id")))
		for _, client := range c.Clients[:min(len(c.Clients), maxHopping)] {
			r.fit(fmt.Sprintf("%8d CONNECTs of %s, on %d nodes", client.Connects, text.Clean(client.ID), client.Nodes))
		}
	}
	if len(c.Exchanges) > 0 {
		r.heading("EXCHANGES", "by the log of the node that fetches")
		for _, x := range c.Exchanges[:min(len(c.Exchanges), maxNodes)] {
			r.fit(fmt.Sprintf("  %s from %s: %s, %s, %d that repeat the ones before",
				text.Clean(x.Node), text.Clean(x.Peer), plural(x.Exchanges, "exchange"), plural(x.Objects, "object"), x.Empty))
		}
	}
	r.line()
	label := "More"
	for _, profile := range profiles {
		if profile != "" {
			r.line(r.bold(text.Pad(label, labelWidth)), "beamprof report ", quote(filepath.Dir(profile)))
			label = ""
		}
	}
	_, err := r.page.WriteTo(w)
	return err
}

// node prints a node of a cluster in a few lines.
func (r *report) node(n *Summary) {
	name := text.Clean(n.Target.Node)
	what := ""
	if n.Window.Duration > 0 {
		what = fmt.Sprintf("%s cores", decimals(max(n.CPU.SampledSeconds, n.CPU.ProcessSeconds)/n.Window.Duration, 2))
	}
	if n.CPU.Lost > 0 {
		what += fmt.Sprintf(", %s lost", plural(n.CPU.Lost, "sample"))
	}
	shares := map[string]float64{}
	for _, w := range n.Workloads {
		shares[w.Name] = w.WithoutVM
	}
	if all := workloadShares(shares); all != "" {
		what += ": " + all
	}
	r.line("  ", r.bold(r.shorten(name, 2)))
	r.fit("    " + strings.TrimPrefix(what, ", "))
	of := report{Summary: n, page: page{style: r.style}}
	for _, l := range of.briefListeners() {
		r.fit(fmt.Sprintf("    %s: %s/s, %s", l.name(), decimals(l.OpenedPerSecond, 1), l.closed()))
	}
	if n.Logs != nil {
		r.fit("    log: " + of.briefLog())
	}
}
