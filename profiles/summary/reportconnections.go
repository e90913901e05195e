package summary

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/beamprof/beamprof/profiles/text"
)

// How many lines the parts of the section of the connections have at most.
const (
	maxListeners = 6
	maxClients   = 5
)

// connections prints what clients did on each listener.
func (r *report) connections() {
	c := r.Connections
	if c == nil {
		return
	}
	note := "what clients opened and closed"
	if len(c.Listeners) == 0 {
		note = "no connection was opened or closed"
	}
	if c.Lost > 0 {
		note += fmt.Sprintf("; %s lost", plural(c.Lost, "event"))
	}
	r.heading("CONNECTIONS", note)
	for _, l := range c.Listeners[:min(len(c.Listeners), maxListeners)] {
		r.line("  ", r.bold(r.shorten(l.name(), 2)))
		r.fit(fmt.Sprintf("    %d opened, %s/s, %s in the busiest second", l.Opened, decimals(l.OpenedPerSecond, 1), decimals(l.PeakPerSecond, 0)))
		r.fit("    " + l.closed())
	}
	if more := len(c.Listeners) - maxListeners; more > 0 {
		r.fit(fmt.Sprintf("  and %s more", plural(more, "listener")))
	}
	r.mqtt(c.MQTT)
	for _, client := range c.Clients[:min(len(c.Clients), maxClients)] {
		line := fmt.Sprintf("%8d CONNECTs of %s", client.Connects, text.Clean(client.ID))
		if client.Nodes > 1 {
			line += fmt.Sprintf(", on %d nodes", client.Nodes)
		}
		r.fit(line)
	}
	for _, remote := range c.Remotes[:min(len(c.Remotes), maxClients)] {
		r.fit(fmt.Sprintf("%8d connections from %s", remote.Opened, text.Clean(remote.Address)))
	}
}

func (r *report) mqtt(m *MQTT) {
	if m == nil {
		return
	}
	r.line("  ", r.bold("MQTT, where it is not encrypted"))
	r.fit(fmt.Sprintf("    %s of %s, %s of them more than once; %d clean",
		plural(m.Connects, "CONNECT"), plural(m.Clients, "client id"), plural(m.Repeated, "id"), m.CleanSession))
	r.fit(fmt.Sprintf("    %s, %d refused; %d closed without one; %d with an id that was still connected",
		plural(m.Connacks, "CONNACK"), m.Refused, m.WithoutConnack, m.TakenOver))
	var versions []string
	for _, version := range slices.Sorted(maps.Keys(m.Versions)) {
		versions = append(versions, fmt.Sprintf("%s: %d", text.Clean(version), m.Versions[version]))
	}
	if len(versions) > 0 {
		r.fit("    versions " + strings.Join(versions, ", "))
	}
}

// name returns a listener's address and what is spoken there.
func (l Listener) name() string {
	name := text.Clean(l.Address)
	if l.Protocol != "" && l.Protocol != ProtocolUnknown && l.Protocol != ProtocolOther {
		name += " " + text.Clean(l.Protocol)
	}
	return name
}

// closed says how connections ended.
func (l Listener) closed() string {
	parts := fmt.Sprintf("%d closed, %d by the client first", l.Closed, l.ClosedByPeer)
	if l.ClosedBeforeConnack > 0 {
		parts += fmt.Sprintf(", %d before their CONNACK", l.ClosedBeforeConnack)
	}
	if l.MedianLifetimeSeconds > 0 {
		parts += fmt.Sprintf("; median %s s", decimals(l.MedianLifetimeSeconds, 2))
	}
	return parts
}
