package main

import (
	"context"
	"fmt"
	"time"

	"github.com/beamprof/beamprof/collector/connections"
	churn "github.com/beamprof/beamprof/profiles/connections"
	"github.com/beamprof/beamprof/profiles/summary"
)

// connectionsFile is the name of the profile of connections.
const connectionsFile = "connections.pb.gz"

// connectionsOff is the value of --connections that looks at nothing.
const connectionsOff = "off"

// connectionsModes are the other values.
var connectionsModes = map[string]connections.Detail{"full": connections.Full, "totals": connections.CountOnly}

// connectionRecorder looks at the connections to the VM's listeners beside the samples.
type connectionRecorder struct {
	session  connectionSession
	profile  *churn.Builder
	start    time.Time
	duration time.Duration
	stop     context.CancelFunc
	done     chan error
	err      error // why counting ended early
}

// recordConnections begins to count.
func recordConnections(ctx context.Context, s connectionSession, options churn.Options) *connectionRecorder {
	ctx, stop := context.WithCancel(ctx)
	c := &connectionRecorder{session: s, profile: churn.NewBuilder(options), start: time.Now(), stop: stop, done: make(chan error, 1)}
	go func() { c.done <- s.Run(ctx, c.profile.Add) }()
	return c
}

// end stops counting. It may be called more than once.
func (c *connectionRecorder) end() {
	c.stop()
	if c.duration > 0 {
		return
	}
	c.duration = time.Since(c.start)
	c.err = <-c.done
}

// condense returns the summary's part and the profile's file; there is no file
// where no connection came or went.
func (c *connectionRecorder) condense(pid int, node string) (*summary.Connections, []outputFile, error) {
	totals, err := c.session.Totals()
	if err != nil {
		return nil, nil, err
	}
	stats := c.session.Stats()
	condensed := c.profile.Summary(c.duration, totals, stats)
	if c.profile.Empty() {
		return condensed, nil, nil
	}
	profile, err := c.profile.Profile(churn.Info{
		Version: versionText(), PID: pid, Node: node, Start: c.start, Duration: c.duration, Totals: totals, Stats: stats,
	})
	if err != nil {
		return nil, nil, err
	}
	return condensed, []outputFile{{connectionsFile, profile.Write}}, nil
}

// warnings says what the numbers do not tell.
func (c *connectionRecorder) warnings() []string {
	var warnings []string
	stats := c.session.Stats()
	add := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if c.err != nil {
		add("connections were not counted to the end: %v", c.err)
	}
	if stats.NoSpeech != nil {
		add("what clients say was not looked at, or not to the end; connections were counted: %v", stats.NoSpeech)
	}
	if stats.Lost > 0 {
		add("%d events of connections were lost: the totals of listeners have them, all else does not", stats.Lost)
	}
	if uncounted := stats.Uncounted; uncounted*1000 > c.counted() {
		add("up to %d connections that came or went may be missing: the kernel did not show so many changes of sockets, of any program", uncounted)
	}
	if stats.Malformed > 0 {
		add("%d records of connections could not be read", stats.Malformed)
	}
	return warnings
}

// counted returns how many connections came and went.
func (c *connectionRecorder) counted() (sum uint64) {
	totals, err := c.session.Totals()
	if err != nil { // which condense tells
		return 0
	}
	for _, t := range totals {
		sum += t.Opened + t.Closed
	}
	return sum
}
