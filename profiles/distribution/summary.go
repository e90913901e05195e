package distribution

import (
	"cmp"
	"slices"

	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// maxGroups is how many kinds of messages a summary lists.
const maxGroups = 50

// Summary returns the traffic with each node, the busiest first, by the totals
// of the window, and the messages if they were looked at. Call Close before.
func (b *Builder) Summary(detail string, totals []distribution.Total, stats distribution.Stats) *summary.Distribution {
	s := &summary.Distribution{Detail: detail, Every: stats.Every, Peers: []summary.Peer{}}
	shares := b.Shares()
	slices.SortStableFunc(totals, func(a, b distribution.Total) int {
		return cmp.Or(cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes), cmp.Compare(a.Node, b.Node))
	})
	for _, t := range totals {
		workloads := shares[t.Node]
		if workloads == nil {
			workloads = map[string]float64{}
		}
		s.Peers = append(s.Peers, summary.Peer{
			Node: t.Node, SentBytes: t.SentBytes, SentMessages: t.SentMessages, ReceivedBytes: t.ReceivedBytes, ReceivedMessages: t.ReceivedMessages,
			UnknownSockets: t.Unknown, Workloads: workloads,
		})
	}
	if stats.Detail == distribution.Totals || len(totals) == 0 {
		return s
	}
	for _, g := range b.Groups(maxGroups) {
		direction := "sent"
		if g.Received {
			direction = "received"
		}
		s.Messages = append(s.Messages, summary.Messages{
			Direction: direction, Destination: g.Destination, RequestType: g.RequestType, Request: g.Request, Messages: g.Messages, Bytes: g.Bytes,
		})
	}
	return s
}
