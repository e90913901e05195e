package summary

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ClusterSchema names the format of a Cluster as JSON.
const ClusterSchema = "beamprof.cluster/1"

// Cluster joins the summaries of several nodes of one cluster that were
// recorded at the same time.
type Cluster struct {
	Schema    string      `json:"schema"`
	Warnings  []string    `json:"warnings,omitempty"`
	Diagnosis []Diagnosis `json:"diagnosis"`
	Clients   []Client    `json:"clients"`   // those that connected to more than one node
	Exchanges []Exchange  `json:"exchanges"` // as the nodes' logs tell
	Nodes     []*Summary  `json:"nodes"`
}

// Exchange is what one node fetched from another in the window.
type Exchange struct {
	Node      string `json:"node"` // that fetched
	Peer      string `json:"peer"`
	Exchanges uint64 `json:"exchanges"`
	Objects   uint64 `json:"objects"`
	Empty     uint64 `json:"empty"` // exchanges that repeated the ones before
}

// Joinable tells whether summaries are of different nodes.
func Joinable(nodes []*Summary) bool {
	names := map[string]bool{}
	for _, n := range nodes {
		if n.Target.Node == "" || names[n.Target.Node] {
			return false
		}
		names[n.Target.Node] = true
	}
	return len(nodes) > 1
}

// Join joins what was recorded on several nodes. The diagnosis is left open.
func Join(nodes []*Summary) *Cluster {
	c := &Cluster{Schema: ClusterSchema, Diagnosis: []Diagnosis{}, Clients: []Client{}, Exchanges: []Exchange{}, Nodes: nodes}
	var begin, end time.Time
	for i, n := range nodes {
		start, stop := n.Window.Start, n.Window.Start.Add(time.Duration(n.Window.Duration*float64(time.Second)))
		if i == 0 || start.After(begin) {
			begin = start
		}
		if i == 0 || stop.Before(end) {
			end = stop
		}
		c.Exchanges = append(c.Exchanges, exchanges(n)...)
	}
	if !begin.Before(end) {
		c.Warnings = append(c.Warnings, "the nodes were not recorded at the same time: record them together, or do not compare them")
	}
	c.Clients = append(c.Clients, hopping(nodes)...)
	return c
}

// hopping returns the clients that are among the busiest of more than one node.
func hopping(nodes []*Summary) []Client {
	joined := map[string]*Client{}
	for _, n := range nodes {
		if n.Connections == nil {
			continue
		}
		for _, client := range n.Connections.Clients {
			j := joined[client.ID]
			if j == nil {
				j = &Client{ID: client.ID}
				joined[client.ID] = j
			}
			j.Nodes++
			j.Connects += client.Connects
		}
	}
	var found []Client
	for _, j := range joined {
		if j.Nodes > 1 {
			found = append(found, *j)
		}
	}
	slices.SortFunc(found, func(a, b Client) int { return cmp.Or(cmp.Compare(b.Connects, a.Connects), cmp.Compare(a.ID, b.ID)) })
	return found[:min(len(found), maxListed)]
}

// exchanges sums up what a node's log says of its exchanges, by peer.
func exchanges(n *Summary) []Exchange {
	peers := map[string]*Exchange{}
	for _, l := range n.Logs {
		if l.Signal != "ae_exchange" && l.Signal != "empty_sync" {
			continue
		}
		for _, v := range l.Values {
			peer := strings.Trim(v.Fields["peer"], "'") // an atom, as Erlang prints it
			if peer == "" || v.InWindow == 0 {
				continue
			}
			x := peers[peer]
			if x == nil {
				x = &Exchange{Node: n.Target.Node, Peer: peer}
				peers[peer] = x
			}
			if l.Signal == "empty_sync" {
				x.Empty += v.InWindow
				continue
			}
			x.Exchanges += v.InWindow
			if objects, err := strconv.ParseUint(v.Fields["count"], 10, 32); err == nil {
				x.Objects += objects * v.InWindow
			}
		}
	}
	var found []Exchange
	for _, x := range peers {
		found = append(found, *x)
	}
	slices.SortFunc(found, func(a, b Exchange) int {
		return cmp.Or(cmp.Compare(b.Exchanges, a.Exchanges), cmp.Compare(a.Peer, b.Peer))
	})
	return found
}
