// Package upload delivers profiles to sinks: local directories and
// continuous-profiling back ends.
//
// Add puts a profile into the queue of each sink, on disk; Run sends what is in
// the queues, each sink for itself, in order, until its server has taken it or
// never will. What was added outlives a crash and an outage, within the bounds
// of the queues, and what is given up is counted.
//
// A profile is delivered at least once. One of which it is not known whether it
// arrived is sent again with the same ID, where the protocol has one.
package upload

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"

	"github.com/beamprof/beamprof/profiles/upload/sinks"
)

// What the agent needs of package sinks.
type (
	Config    = sinks.Config
	Auth      = sinks.Auth
	TLS       = sinks.TLS
	Queue     = sinks.Queue
	Directory = sinks.Directory
	Size      = sinks.Size
	Secret    = sinks.Secret
	Profile   = sinks.Profile
)

// Kinds of profiles.
const (
	KindCPU          = sinks.KindCPU
	KindDistribution = sinks.KindDistribution
	KindConnections  = sinks.KindConnections
)

// Pipeline is a set of sinks with their queues. It is safe for concurrent use.
type Pipeline struct {
	spool string
	log   zerolog.Logger

	preparing sync.Mutex // one profile at a time is unpacked: that takes the most memory
	reload    sync.Mutex // one Reload, Run or Close at a time changes the set

	mu      sync.RWMutex
	workers []*worker
	running context.Context // nil while Run does not
	closed  bool
}

// ErrClosed is what Add and Run return after Close.
var ErrClosed = errors.New("the pipeline is closed")

// Validate checks sinks together: each for itself, and that names differ. Its
// errors begin with the key, as in sinks[0].url.
func Validate(configs []Config) error {
	var errs []error
	names := map[string]bool{}
	for i := range configs {
		c := configs[i]
		if names[c.Name] {
			errs = append(errs, fmt.Errorf("sinks[%d].name: %q is there twice", i, c.Name))
		}
		names[c.Name] = true
		if err := c.Validate(); err != nil {
			for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
				errs = append(errs, fmt.Errorf("sinks[%d].%w", i, err))
			}
		}
	}
	return errors.Join(errs...)
}

// New makes a pipeline and opens its queues, which are directories below spool,
// named by their sinks. It connects to nothing.
func New(configs []Config, spool string, log zerolog.Logger) (*Pipeline, error) {
	p := &Pipeline{spool: spool, log: log}
	workers, err := p.build(configs)
	if err != nil {
		return nil, err
	}
	p.workers = workers
	p.warnOfOthers()
	return p, nil
}

// build makes the workers of a configuration; those whose sink is there already
// take its queue over when they start.
func (p *Pipeline) build(configs []Config) ([]*worker, error) {
	if err := Validate(configs); err != nil {
		return nil, err
	}
	var workers []*worker
	for i, c := range configs {
		w, err := newWorker(c.WithDefaults(), filepath.Join(p.spool, c.Name), p.find(c.Name), &p.preparing, p.log)
		if err != nil {
			for _, w := range workers {
				w.discard()
			}
			return nil, fmt.Errorf("sinks[%d] (%s): %w", i, c.Name, err)
		}
		workers = append(workers, w)
	}
	return workers, nil
}

func (p *Pipeline) find(name string) *worker {
	for _, w := range p.workers {
		if w.config.Name == name {
			return w
		}
	}
	return nil
}

// warnOfOthers tells of queues that belong to no sink: they are kept, as their
// sink may come back.
func (p *Pipeline) warnOfOthers() {
	entries, _ := os.ReadDir(p.spool)
	for _, e := range entries {
		if e.IsDir() && p.find(e.Name()) == nil {
			p.log.Warn().Str("directory", filepath.Join(p.spool, e.Name())).Msg("this queue belongs to no sink: configure the sink again, or remove the directory")
		}
	}
}

// Add puts a profile into the queue of each sink. When it returns nil all of
// them have it on disk. The error tells of the sinks that have not.
func (p *Pipeline) Add(profile Profile) error {
	payload, err := marshal(&profile)
	if err != nil {
		return err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return ErrClosed
	}
	var errs []error
	for _, w := range p.workers {
		if err := w.push(profile.End, payload); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", w.config.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Run sends what is in the queues until the context ends, and then for a few
// seconds more what can be sent without waiting.
func (p *Pipeline) Run(ctx context.Context) error {
	p.reload.Lock()
	p.mu.Lock()
	if p.closed || p.running != nil {
		defer p.reload.Unlock()
		defer p.mu.Unlock()
		if p.closed {
			return ErrClosed
		}
		return errors.New("the pipeline runs already")
	}
	p.running = ctx
	for _, w := range p.workers {
		w.start(ctx)
	}
	p.mu.Unlock()
	p.reload.Unlock()

	<-ctx.Done()
	p.reload.Lock()
	defer p.reload.Unlock()
	for _, w := range p.workers { // they change only under reload
		w.wait()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = nil
	return nil
}

// Reload changes the sinks: all of them, or none if it returns an error. Sinks
// that keep their name keep their queue and their counts.
func (p *Pipeline) Reload(configs []Config) error {
	p.reload.Lock()
	defer p.reload.Unlock()
	if p.closed {
		return ErrClosed
	}
	workers, err := p.build(configs)
	if err != nil {
		return err
	}
	for _, w := range p.workers {
		w.stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := map[*worker]bool{}
	for _, w := range workers {
		kept[w.takeOver()] = true
		if p.running != nil {
			w.start(p.running)
		}
	}
	for _, w := range p.workers {
		err = errors.Join(err, w.close(kept[w]))
	}
	p.workers = workers
	p.warnOfOthers()
	if err != nil {
		p.log.Warn().Err(err).Msg("a sink that was replaced did not close")
	}
	return nil
}

// Stats returns the counts of each sink, in the order of the configuration.
func (p *Pipeline) Stats() []SinkStats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var all []SinkStats
	for _, w := range p.workers {
		all = append(all, w.stats())
	}
	return all
}

// Close gives back what the pipeline holds. End Run before.
func (p *Pipeline) Close() error {
	p.reload.Lock()
	defer p.reload.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	var errs []error
	for _, w := range p.workers {
		w.stop()
		errs = append(errs, w.close(false))
	}
	return errors.Join(errs...)
}

// marshal writes a profile as it is kept in a queue: the length of the
// description, 4 bytes; the description as JSON; the profile itself.
func marshal(p *Profile) ([]byte, error) {
	description, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("describe the profile: %w", err)
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(description)))
	return append(append(b, description...), p.Data...), nil
}

var errNotProfile = errors.New("what is in the queue is not a profile")

func unmarshal(b []byte) (*Profile, error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, errNotProfile
	}
	size := int(binary.LittleEndian.Uint32(b))
	var p Profile
	if err := json.Unmarshal(b[4:4+size], &p); err != nil {
		return nil, errNotProfile
	}
	p.Data = bytes.Clone(b[4+size:])
	return &p, nil
}
