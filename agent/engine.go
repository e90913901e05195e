package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
)

// engine samples the VMs that a configuration selects.
type engine struct {
	agent   *Agent
	config  *Config
	sampler *sampler.Sampler
	stopped context.CancelFunc
	ended   sync.WaitGroup
	scanned atomic.Int64 // time of the last look for VMs, Unix nanoseconds
	failure atomic.Pointer[error]
	finder  beam.Finder

	mutex   sync.Mutex
	vms     map[int]*vm // by pid
	refused map[int]refusal
	first   chan struct{} // closed when all VMs that were there are being sampled
}

func newEngine(a *Agent, config *Config) (*engine, error) {
	s, err := sampler.New(sampler.Options{Frequency: config.Sampling.Frequency})
	if err != nil {
		return nil, err
	}
	return &engine{agent: a, config: config, sampler: s, vms: map[int]*vm{}, refused: map[int]refusal{}, first: make(chan struct{})}, nil
}

// start samples until stop. Sampling goes on until all windows have ended.
func (e *engine) start() {
	sampling, stopSampling := context.WithCancel(context.Background())
	looking, stopLooking := context.WithCancel(context.Background())
	var sampled sync.WaitGroup
	sampled.Go(func() {
		if err := e.sampler.Run(sampling); err != nil {
			e.fail(fmt.Errorf("sampling: %w", err))
		}
	})
	e.ended.Go(func() { e.look(looking) })
	e.stopped = func() {
		stopLooking()
		e.ended.Wait()
		stopSampling()
		sampled.Wait()
	}
}

// fail notes that the engine cannot go on, and ends the agent.
func (e *engine) fail(err error) {
	e.failure.Store(&err)
	select {
	case e.agent.failed <- err:
	default:
	}
}

// look looks for VMs that came.
func (e *engine) look(ctx context.Context) {
	ticks := time.NewTicker(e.config.Targets.Interval)
	defer ticks.Stop()
	for first := true; ; first = false {
		e.discover(ctx)
		e.scanned.Store(time.Now().UnixNano())
		if first {
			close(e.first)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// all returns the VMs that are sampled now.
func (e *engine) all() []*vm {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	all := make([]*vm, 0, len(e.vms))
	for _, v := range e.vms {
		all = append(all, v)
	}
	return all
}

// patience is for how long the agent may do without a look for VMs.
const patience = time.Minute

// healthy returns what keeps the engine from its work.
func (e *engine) healthy() error {
	if failed := e.failure.Load(); failed != nil {
		return *failed
	}
	if last := e.scanned.Load(); last != 0 {
		if age := time.Since(time.Unix(0, last)); age > patience+e.config.Targets.Interval {
			return fmt.Errorf("no look for VMs for %v", age.Round(time.Second))
		}
	}
	return nil
}

// stop ends all windows.
func (e *engine) stop() error {
	if e.stopped != nil {
		e.stopped()
	}
	return e.close()
}

func (e *engine) close() error {
	if err := e.sampler.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("ending the sampling: %w", err)
	}
	return nil
}
