package distribution

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// Info is what a profile says about itself.
type Info struct {
	Version  string // of beamprof
	PID      int
	Node     string
	Start    time.Time
	Duration time.Duration
	Totals   []distribution.Total
	Stats    distribution.Stats
}

// Profile returns what was counted, in the order it was first seen. The result
// has passed CheckValid. Call Close before.
func (b *Builder) Profile(info Info) (*profile.Profile, error) {
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "messages", Unit: "count"}, {Type: "bytes", Unit: "bytes"}},
		DefaultSampleType: "bytes",
		PeriodType:        &profile.ValueType{Type: "messages", Unit: "count"},
		Period:            1,
		TimeNanos:         info.Start.UnixNano(),
		DurationNanos:     info.Duration.Nanoseconds(),
		Comments:          b.comments(info),
	}
	locations := b.locations(p)
	for _, r := range b.rowOrder {
		total := b.rows[r]
		sample := &profile.Sample{Value: []int64{whole(total.messages), whole(total.bytes)}, Label: r.labels()}
		for at := 0; at+4 <= len(r.stack); at += 4 {
			sample.Location = append(sample.Location, locations[binary.NativeEndian.Uint32([]byte(r.stack[at:at+4]))])
		}
		p.Sample = append(p.Sample, sample)
	}
	if err := p.CheckValid(); err != nil {
		return nil, fmt.Errorf("check the profile that was built: %w", err)
	}
	return p, nil
}

// labels returns the row's labels; those without a value are absent.
func (r row) labels() map[string][]string {
	labels := map[string][]string{"direction": {"sent"}}
	if r.received {
		labels["direction"][0] = "received"
	}
	for name, value := range map[string]string{
		"peer": r.peer, "operation": r.operation, "destination": r.destination, "request_type": r.requestType,
		"request": r.request, "process_kind": r.kind, "workload": r.workload,
	} {
		if value != "" {
			labels[name] = []string{text.Clean(value)}
		}
	}
	return labels
}

// locations fills in the profile's code and returns it by the frames' numbers.
func (b *Builder) locations(p *profile.Profile) []*profile.Location {
	mapping := &profile.Mapping{ID: 1, File: "[beam jit]", HasFunctions: true, HasFilenames: true, HasLineNumbers: true, HasInlineFrames: true}
	p.Mapping = []*profile.Mapping{mapping}
	type key struct{ name, file string }
	functions := map[key]*profile.Function{}
	for i, frame := range b.order {
		k := key{text.Clean(frame.Function), text.Clean(frame.File)}
		if k.name == "" {
			k.name = fmt.Sprintf("[no name] 0x%x", frame.Address)
		}
		function := functions[k]
		if function == nil {
			function = &profile.Function{ID: uint64(len(p.Function) + 1), Name: k.name, Filename: k.file}
			functions[k] = function
			p.Function = append(p.Function, function)
		}
		location := &profile.Location{ID: uint64(i + 1), Address: frame.Address, Line: []profile.Line{{Function: function, Line: int64(max(frame.Line, 0))}}}
		if frame.Kind != collector.FrameMarker {
			location.Mapping = mapping
		}
		p.Location = append(p.Location, location)
	}
	return p.Location
}

func (b *Builder) comments(info Info) []string {
	comments := []string{
		fmt.Sprintf("node: %s (pid %d)", text.Clean(info.Node), info.PID),
		"versions: beamprof " + info.Version,
		fmt.Sprintf("messages looked into: %d; lost: %d, not counted: %d, malformed: %d", info.Stats.Messages, info.Stats.Lost, info.Stats.Uncounted, info.Stats.Malformed),
	}
	if info.Stats.Every > 1 {
		comments = append(comments, fmt.Sprintf("one message in %d was looked into: values are estimates", info.Stats.Every))
	}
	for _, t := range info.Totals {
		comments = append(comments, fmt.Sprintf("total of %s: sent %d bytes in %d messages, received %d bytes in %d messages",
			text.Clean(t.Node), t.SentBytes, t.SentMessages, t.ReceivedBytes, t.ReceivedMessages))
	}
	if b.crowded > 0 {
		comments = append(comments, fmt.Sprintf("messages without details: %d (more than %d different ones)", b.crowded, maxRows))
	}
	return comments
}

// Shares returns for each peer the share of its bytes by workload, 0 to 1, of
// both directions together. Call Close before.
func (b *Builder) Shares() map[string]map[string]float64 {
	shares, sums := map[string]map[string]float64{}, map[string]float64{}
	for r, total := range b.rows {
		if shares[r.peer] == nil {
			shares[r.peer] = map[string]float64{}
		}
		shares[r.peer][r.workload] += total.bytes
		sums[r.peer] += total.bytes
	}
	for peer, by := range shares {
		for workload := range by {
			if sums[peer] > 0 {
				by[workload] /= sums[peer]
			}
		}
	}
	return shares
}

// messageCost is what a message costs the VM and the kernel that carry it beside
// what its bytes do, in bytes that cost as much. BenchmarkMessageCost in
// collector/distribution shows 5 us for a message and, for each byte, 3.4 ns in
// small terms and 0.3 ns in large binaries, of which much less is sent.
const messageCost = 2000

// Costs returns for each peer what its messages of both directions cost, by
// workload, in bytes. Call Close before.
func (b *Builder) Costs() map[string]map[string]float64 {
	costs := map[string]map[string]float64{}
	for r, total := range b.rows {
		if costs[r.peer] == nil {
			costs[r.peer] = map[string]float64{}
		}
		costs[r.peer][r.workload] += total.bytes + messageCost*total.messages
	}
	return costs
}

// Group is what messages of one kind, to one kind of destination, come to.
type Group struct {
	Received                          bool
	Destination, RequestType, Request string
	Messages, Bytes                   uint64
}

// Groups returns the groups with the most bytes, over all peers.
func (b *Builder) Groups(limit int) []Group {
	sums := map[Group]*sum{}
	for r, total := range b.rows {
		key := Group{Received: r.received, Destination: kind(r.destination), RequestType: r.requestType, Request: r.request}
		if sums[key] == nil {
			sums[key] = &sum{}
		}
		sums[key].messages += total.messages
		sums[key].bytes += total.bytes
	}
	groups := make([]Group, 0, len(sums))
	for g, total := range sums {
		g.Messages, g.Bytes = uint64(whole(total.messages)), uint64(whole(total.bytes))
		groups = append(groups, g)
	}
	slices.SortFunc(groups, compareGroups)
	return groups[:min(len(groups), limit)]
}

// compareGroups puts the largest first.
func compareGroups(a, b Group) int {
	switch {
	case a.Bytes != b.Bytes:
		if a.Bytes > b.Bytes {
			return -1
		}
		return 1
	}
	text := func(g Group) string {
		return fmt.Sprintf("%s\n%s\n%s\n%v", g.Destination, g.RequestType, g.Request, g.Received)
	}
	if text(a) < text(b) {
		return -1
	}
	return 1
}
