package main

import (
	"context"
	"fmt"
	"time"

	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/profiles/attribution"
	traffic "github.com/beamprof/beamprof/profiles/distribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// distributionFile is the name of the profile of messages between nodes.
const distributionFile = "distribution.pb.gz"

// distributionOff is the value of --distribution that looks at nothing.
const distributionOff = "off"

// distributionModes are the other values.
var distributionModes = map[string]distribution.Detail{"full": distribution.Full, "sampled": distribution.Sampled, "totals": distribution.Totals}

// distributionRecorder counts the traffic with other nodes beside the samples.
type distributionRecorder struct {
	session  distributionSession
	profile  *traffic.Builder
	start    time.Time
	duration time.Duration
	stop     context.CancelFunc
	done     chan error
	err      error // why counting ended early
}

// recordDistribution begins to count.
func recordDistribution(ctx context.Context, s distributionSession, rules *attribution.Rules) *distributionRecorder {
	ctx, stop := context.WithCancel(ctx)
	d := &distributionRecorder{session: s, profile: traffic.NewBuilder(rules), start: time.Now(), stop: stop, done: make(chan error, 1)}
	go func() { d.done <- s.Run(ctx, d.profile.Add) }()
	return d
}

// end stops counting. It may be called more than once.
func (d *distributionRecorder) end() {
	d.stop()
	if d.duration > 0 {
		return
	}
	d.err = <-d.done
	d.duration = time.Since(d.start)
	d.profile.Close()
}

// condense returns the summary's part and the profile's file; there is no file
// where messages were not looked at, or no node was connected.
func (d *distributionRecorder) condense(pid int, node string) (*summary.Distribution, []outputFile, error) {
	totals, err := d.session.Totals()
	if err != nil {
		return nil, nil, err
	}
	stats := d.session.Stats()
	condensed := d.profile.Summary(detailName(stats.Detail), totals, stats)
	if stats.Detail == distribution.Totals || len(totals) == 0 {
		return condensed, nil, nil
	}
	profile, err := d.profile.Profile(traffic.Info{
		Version: versionText(), PID: pid, Node: node, Start: d.start, Duration: d.duration, Totals: totals, Stats: stats,
	})
	if err != nil {
		return nil, nil, err
	}
	return condensed, []outputFile{{distributionFile, profile.Write}}, nil
}

// warnings says what the numbers do not tell.
func (d *distributionRecorder) warnings() []string {
	var warnings []string
	stats := d.session.Stats()
	add := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if d.err != nil {
		add("the traffic with other nodes was not counted to the end: %v", d.err)
	}
	if stats.NoBytes != nil {
		add("bytes from and to other nodes were not counted: %v", stats.NoBytes)
	}
	switch {
	case stats.NoMessages == nil:
	case stats.NoBytes != nil:
		add("messages to other nodes were not looked at: %v", stats.NoMessages)
	default:
		add("messages to other nodes were not looked at, their bytes are counted: %v", stats.NoMessages)
	}
	if stats.Reduced {
		add("looking into every message between nodes would have cost the VM more than 10 %% of a core: it was left for --distribution=sampled")
	}
	if stats.Lost > 0 {
		add("%d messages to or from other nodes were counted, but their details were lost", stats.Lost)
	}
	if stats.Uncounted > 0 {
		add("%d messages to or from other nodes were not counted", stats.Uncounted)
	}
	if stats.Malformed > 0 {
		add("%d messages to or from other nodes could not be read", stats.Malformed)
	}
	if stats.Missed > 0 {
		add("more sockets were closed than could be followed: bytes of connections that ended may be missing")
	}
	return warnings
}

func detailName(d distribution.Detail) string {
	for name, detail := range distributionModes {
		if detail == d {
			return name
		}
	}
	return ""
}
