package connections

import (
	"fmt"
	"time"

	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/profiles/text"
)

// Info is what a profile says about itself.
type Info struct {
	Version  string // of beamprof
	PID      int
	Node     string
	Start    time.Time
	Duration time.Duration
	Totals   []connections.Totals
	Stats    connections.Stats
}

// Profile returns what was counted, in the order it ended; what is still open
// comes last. The result has passed CheckValid.
func (b *Builder) Profile(info Info) (*profile.Profile, error) {
	b.countOpen()
	p := &profile.Profile{
		SampleType: []*profile.ValueType{
			{Type: "connections", Unit: "count"}, {Type: "closed", Unit: "count"}, {Type: "closed_before_connack", Unit: "count"},
			{Type: "taken_over", Unit: "count"}, {Type: "lifetime", Unit: "nanoseconds"},
		},
		DefaultSampleType: "connections",
		PeriodType:        &profile.ValueType{Type: "connections", Unit: "count"},
		Period:            1,
		TimeNanos:         info.Start.UnixNano(),
		DurationNanos:     info.Duration.Nanoseconds(),
		Comments:          b.comments(info),
	}
	places := places{profile: p, locations: map[string]*profile.Location{}}
	for _, r := range b.rowOrder {
		total := b.rows[r]
		p.Sample = append(p.Sample, &profile.Sample{
			Location: []*profile.Location{places.at(remoteName(r.remote)), places.at(r.listener.String())},
			Value:    []int64{total.opened, total.closed, total.withoutConnack, total.takenOver, total.lifetime},
			Label:    r.labels(),
		})
	}
	if err := p.CheckValid(); err != nil {
		return nil, fmt.Errorf("check the profile that was built: %w", err)
	}
	return p, nil
}

// countOpen adds the connections that are still open, once.
func (b *Builder) countOpen() {
	for _, c := range b.open {
		if c.opened { // and not before this Builder's time
			b.count(c)
		}
	}
	clear(b.open)
}

// labels returns the row's labels; those without a value are absent.
func (r row) labels() map[string][]string {
	labels := map[string][]string{}
	for name, value := range map[string]string{
		"protocol": string(r.protocol), "closed_by": r.end, "mqtt_version": r.version, "clean": r.clean, "connack": r.answer, "client": r.client,
	} {
		if value != "" {
			labels[name] = []string{text.Clean(value)}
		}
	}
	return labels
}

// places are the profile's locations by what they are called.
type places struct {
	profile   *profile.Profile
	locations map[string]*profile.Location
}

func (p places) at(name string) *profile.Location {
	if known := p.locations[name]; known != nil {
		return known
	}
	id := uint64(len(p.locations) + 1)
	function := &profile.Function{ID: id, Name: name}
	location := &profile.Location{ID: id, Line: []profile.Line{{Function: function}}}
	p.profile.Function = append(p.profile.Function, function)
	p.profile.Location = append(p.profile.Location, location)
	p.locations[name] = location
	return location
}

func (b *Builder) comments(info Info) []string {
	comments := []string{
		fmt.Sprintf("node: %s (pid %d)", text.Clean(info.Node), info.PID),
		"versions: beamprof " + info.Version,
		fmt.Sprintf("events lost: %d, malformed: %d, not shown by the kernel: %d", info.Stats.Lost, info.Stats.Malformed, info.Stats.Uncounted),
	}
	if info.Stats.Detail != connections.Full {
		comments = append(comments, "what clients say was not looked at")
	}
	for _, t := range info.Totals {
		if t.Opened+t.Closed > 0 {
			comments = append(comments, fmt.Sprintf("total of %s: opened %d, closed %d, by clients %d, by the server %d", t.Listener.Address, t.Opened, t.Closed, t.ClosedByPeer, t.ClosedByTarget))
		}
	}
	if b.crowded > 0 {
		comments = append(comments, fmt.Sprintf("connections without details: %d (more than %d different ones)", b.crowded, maxRows))
	}
	return comments
}
