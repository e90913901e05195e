// Package agent profiles the VMs of a host for as long as it runs: it finds them
// (discover.go), samples each in windows without gaps (vm.go), makes profiles of
// the windows and hands them to the sinks (collection.go), counts (metrics.go)
// and answers scrapers (serve.go, scrape.go). What it is to do is in its
// configuration (config.go), which can be changed while it runs.
package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/beamprof/beamprof/collector/host"
	"github.com/beamprof/beamprof/profiles/upload"
)

// Options are what the agent is told of its surroundings.
type Options struct {
	Version string // of beamprof
	Log     zerolog.Logger
}

// Agent is a running agent.
type Agent struct {
	options  Options
	host     string // name of this host
	kernel   string // its release
	pipeline *upload.Pipeline
	metrics  *metrics

	running context.Context
	failed  chan error // a part that ended by itself

	changing sync.Mutex // one Reload at a time
	mutex    sync.RWMutex
	config   *Config
	engine   *engine
	server   *server
}

// New prepares an agent and takes its place: the queues of the sinks, the
// address it listens on, the sampling programs. Errors wrap os.ErrPermission if
// privileges are missing.
func New(config *Config, options Options) (_ *Agent, err error) {
	a := &Agent{options: options, kernel: host.Release(), config: config, failed: make(chan error, 8)}
	if a.host, err = os.Hostname(); err != nil {
		return nil, fmt.Errorf("the name of this host: %w", err)
	}
	if a.pipeline, err = upload.New(config.Sinks, config.Spool, options.Log); err != nil {
		return nil, err
	}
	a.metrics = newMetrics(a)
	if a.engine, err = newEngine(a, config); err != nil {
		return nil, errors.Join(err, a.pipeline.Close())
	}
	if a.server, err = a.listen(config, nil); err != nil {
		return nil, errors.Join(err, a.engine.close(), a.pipeline.Close())
	}
	return a, nil
}

// Run profiles until ctx is done; then it ends all windows, and writes and sends
// what it has. ready is called when everything runs.
func (a *Agent) Run(ctx context.Context, ready func()) error {
	sending, stopSending := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSending()
	sent := make(chan error, 1)
	go func() { sent <- a.pipeline.Run(sending) }()
	a.mutex.Lock()
	a.running = ctx
	a.engine.start()
	a.server.start()
	a.mutex.Unlock()
	ready()
	var err error
	select {
	case <-ctx.Done():
	case err = <-a.failed:
	}
	a.changing.Lock()
	defer a.changing.Unlock()
	a.server.stop(lastAnswers)
	err = errors.Join(err, a.engine.stop())
	stopSending()
	return errors.Join(err, <-sent, a.pipeline.Close())
}

// Reload goes on with another configuration: with all of it, or if it returns
// an error with nothing of it.
func (a *Agent) Reload(config *Config) (err error) {
	a.changing.Lock()
	defer a.changing.Unlock()
	old := a.config
	if config.Spool != old.Spool {
		return errors.New("spool: cannot be changed while the agent runs: restart it")
	}
	engine, server := a.engine, a.server
	if !config.sameEngine(old) {
		if engine, err = newEngine(a, config); err != nil {
			return err
		}
	}
	if !config.sameServer(old) {
		if server, err = a.listen(config, server); err != nil {
			if engine != a.engine {
				err = errors.Join(err, engine.close())
			}
			return err
		}
	}
	if err := a.pipeline.Reload(config.Sinks); err != nil {
		if engine != a.engine {
			err = errors.Join(err, engine.close())
		}
		if server != a.server {
			server.stop(0)
		}
		return err
	}
	a.mutex.Lock()
	oldEngine, oldServer := a.engine, a.server
	a.config, a.engine, a.server = config, engine, server
	a.mutex.Unlock()
	if engine != oldEngine {
		if err := oldEngine.stop(); err != nil {
			a.options.Log.Warn().Err(err).Msg("the sampling of before the reload did not end well")
		}
		engine.start()
	}
	if server != oldServer {
		server.start()
		go oldServer.retire((maxSeconds + 1) * time.Second) // once its scrapes are answered
	}
	return nil
}

// current returns the engine of now.
func (a *Agent) current() *engine {
	a.mutex.RLock()
	defer a.mutex.RUnlock()
	return a.engine
}

// Healthy returns why the agent does not do its work, or nil.
func (a *Agent) Healthy() error { return a.current().healthy() }
