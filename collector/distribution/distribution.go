// Package distribution tells what a VM sends to other nodes and gets from them:
// bytes for each node from the kernel's own counters (sockets.go,
// connections.go), which cost the VM nothing, and messages from probes in the
// VM (probes.go): what kind, to whom, what for and who sends (message.go).
package distribution

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/memory"
	"github.com/beamprof/beamprof/collector/sockets"
	"github.com/beamprof/beamprof/internal/pace"
)

// Detail is how much is looked at.
type Detail int

// The details. Totals needs no probe in the VM and costs it nothing.
const (
	Totals  Detail = iota // bytes of each node
	Sampled               // and messages, as many as can be looked into at 1 % of a core
	Full                  // and every message, up to 10 % of a core
)

// Options of a session.
type Options struct {
	Detail Detail
}

// Total is what went between the VM and one other node.
type Total struct {
	Node            string // empty: a connection too short to be named
	Connections     int
	Unknown         int    // of these, those whose socket is not known: their bytes are missing
	SentBytes       uint64 // as the kernel counts: data, once each
	ReceivedBytes   uint64
	SentPackets     uint64 // as the VM counts: a message of more than 64 KiB is several, a tick is one
	ReceivedPackets uint64
	// Messages as the probes count, 0 without them. Where the probes are in the
	// VM for a part of the time only, as the VM counts packets.
	SentMessages     uint64
	ReceivedMessages uint64
}

// Stats are what a session could and could not do.
type Stats struct {
	Detail     Detail   // what was possible
	NoMessages error    // why no messages were looked at although they were asked for
	NoBytes    error    // why the kernel's counts of bytes are missing
	Reduced    bool     // from Full to Sampled, because of what it would have cost the VM
	Messages   uint64   // looked into
	Every      uint32   // one message in so many was looked into, on average
	Lost       uint64   // messages looked into by the kernel side only
	Uncounted  uint64   // messages that are not in the totals
	Malformed  uint64   // copies of messages that make no sense
	Missed     uint64   // times that sockets may have closed without a word: bytes may be missing
	Ports      []uint16 // where other nodes connect to this one
}

// Session looks at one VM's distribution from Open to Close.
type Session struct {
	target      *beam.Target
	connections *connections
	probes      *probes // nil if messages are not looked at
	stats       Stats
	latest      atomic.Pointer[Look]
}

// Look is what Totals and Stats return, at some time.
type Look struct {
	Totals []Total
	Stats  Stats
}

// Open attaches to a VM. Counting begins with Run. Where probes are not
// possible it goes on with totals, and Stats says why; a VM that is no node when
// it is attached to has nothing to probe. Errors wrap os.ErrPermission if
// privileges are missing.
func Open(target *beam.Target, options Options) (*Session, error) {
	kernel, err := sockets.Open(target.PID)
	if err != nil {
		return nil, err
	}
	if err := kernel.Subscribe(); err != nil {
		kernel.Close()
		return nil, err
	}
	s := &Session{target: target, connections: newConnections(target, kernel), stats: Stats{Detail: options.Detail}}
	switch {
	case target.NodeName() == "":
		s.stats.Detail = Totals
	case options.Detail != Totals:
		if s.probes, err = newProbes(target, options.Detail); err != nil {
			s.probes = nil
			s.stats.Detail, s.stats.NoMessages = Totals, err
		}
	}
	return s, nil
}

// Times between looks at the VM's list of nodes, and at the buffers.
const (
	lookInterval  = 250 * time.Millisecond
	restInterval  = 500 * time.Millisecond // without probes: there are no buffers to be emptied
	quietInterval = pace.Interval          // while there is no connection
	idleInterval  = 2 * pace.Interval      // of a VM that has no connections and takes none
	askInterval   = time.Second            // for the counts of sockets that are open
	lastWords     = 100 * time.Millisecond // for sockets closed just before the end
)

// Run counts until ctx is done, and calls handle for every message looked into,
// from this goroutine. A VM that ends is no error here: what was counted stays.
func (s *Session) Run(ctx context.Context, handle func(*Message)) error {
	if err := s.connections.begin(); err != nil {
		return fmt.Errorf("count the distribution's bytes: %w", err)
	}
	if s.probes != nil {
		if err := s.probes.begin(); err != nil {
			s.stats.Detail, s.stats.NoMessages = Totals, err
			s.probes.close()
			s.probes = nil
		}
	}
	if s.probes != nil { // else they are waited for until the next look
		reader := s.probes.reader
		defer context.AfterFunc(ctx, func() { _ = reader.Flush() })() // fails if it is closed, and nobody waits
	}
	var failed error
	asked := time.Now()
	for ctx.Err() == nil && failed == nil {
		quiet := s.connections.quiet()
		until := pace.Next(s.interval(quiet))
		if s.probes != nil {
			failed = s.probes.run(ctx, until, quiet, handle)
		} else {
			// The kernel tells of sockets of all processes that close: not one by one.
			wait(ctx, until)
		}
		failed = errors.Join(failed, s.connections.hear(time.Now()))
		// A list that changed while it was read is whole the next time.
		if errors.Is(s.connections.follow(false), memory.ErrExited) {
			break
		}
		if time.Since(asked) >= askInterval {
			s.connections.refresh()
			asked = time.Now()
		}
		s.look()
	}
	if s.probes != nil {
		failed = errors.Join(failed, s.probes.end(handle))
	}
	s.connections.end()
	failed = errors.Join(failed, s.connections.hear(time.Now().Add(lastWords)))
	s.look()
	return failed
}

// interval returns how long to wait for the next look, if connections are quiet or not.
func (s *Session) interval(quiet bool) time.Duration {
	switch {
	case s.probes == nil && s.connections.none():
		return idleInterval
	case quiet:
		return quietInterval
	case s.probes == nil:
		return restInterval
	}
	return lookInterval
}

// look notes what was counted, for other goroutines.
func (s *Session) look() {
	if totals, err := s.Totals(); err == nil {
		s.latest.Store(&Look{totals, s.Stats()})
	}
}

// Latest returns what was counted until a moment ago. Unlike Totals and Stats it
// may be called while Run runs.
func (s *Session) Latest() Look {
	if l := s.latest.Load(); l != nil {
		return *l
	}
	return Look{}
}

// wait waits until a time, or until ctx is done.
func wait(ctx context.Context, until time.Time) {
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Totals returns what was counted for each node. It is complete when Run has
// returned.
func (s *Session) Totals() ([]Total, error) {
	totals := s.connections.totals()
	if s.probes == nil {
		return totals, nil
	}
	return s.probes.weights.add(totals), nil
}

// Stats returns the counts of the session; complete when Run has returned.
func (s *Session) Stats() Stats {
	stats := s.stats
	stats.Missed, stats.NoBytes = s.connections.missed, s.connections.noBytes
	stats.Ports = slices.Sorted(maps.Keys(s.connections.ports))
	if s.probes != nil {
		s.probes.fill(&stats)
	}
	return stats
}

// Close detaches everything.
func (s *Session) Close() error {
	var errs []error
	if s.probes != nil {
		errs = append(errs, s.probes.close())
	}
	return errors.Join(append(errs, s.connections.kernel.Close())...)
}
