package main

import (
	"context"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/host"
	"github.com/beamprof/beamprof/collector/logs"
	"github.com/beamprof/beamprof/collector/sampler"
)

// system is what commands need of the host.
type system interface {
	List() ([]beam.Candidate, error)
	Attach(pid int) (target, error)
	Checks() []host.Check
	Kernel() string // release
}

// target is a VM that can be sampled.
type target interface {
	Info() beam.Info
	Checks() []beam.Check
	CheckMessages() error
	Modules() []string // that are loaded
	Open(options sampler.Options) (session, error)
	OpenDistribution(options distribution.Options) (distributionSession, error)
	OpenConnections(detail connections.Detail) (connectionSession, error)
	OpenLogs(options logs.Options) (logSession, error)
	Close() error
}

// session samples one VM; see sampler.Session.
type session interface {
	Run(ctx context.Context, handle func(*collector.Sample)) error
	Stats() sampler.Stats
	Close() error
}

// distributionSession counts one VM's traffic with other nodes; see
// distribution.Session.
type distributionSession interface {
	Run(ctx context.Context, handle func(*distribution.Message)) error
	Totals() ([]distribution.Total, error)
	Stats() distribution.Stats
	Close() error
}

// logSession follows one VM's logs; see logs.Session.
type logSession interface {
	Run(ctx context.Context)
	Result() logs.Result
	Close() error
}

// connectionSession looks at the connections to one VM's listeners; see
// connections.Session.
type connectionSession interface {
	Run(ctx context.Context, handle func(connections.Event)) error
	Totals() ([]connections.Totals, error)
	Stats() connections.Stats
	Close() error
}

// machine is the system the program runs on.
type machine struct{}

func (machine) List() ([]beam.Candidate, error) { return beam.List() }

func (machine) Checks() []host.Check { return host.Checks() }

func (machine) Kernel() string { return host.Release() }

func (machine) Attach(pid int) (target, error) {
	t, err := beam.Attach(pid)
	if err != nil {
		return nil, err
	}
	return attached{t}, nil
}

type attached struct{ *beam.Target }

func (t attached) Modules() []string { return t.Code.Modules() }

func (t attached) Info() beam.Info { return t.Target.Info }

func (t attached) Open(options sampler.Options) (session, error) {
	s, err := sampler.Open(t.Target, options)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (t attached) OpenDistribution(options distribution.Options) (distributionSession, error) {
	s, err := distribution.Open(t.Target, options)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (attached) OpenLogs(options logs.Options) (logSession, error) {
	s, err := logs.Open(options)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (t attached) OpenConnections(detail connections.Detail) (connectionSession, error) {
	s, err := connections.Open(t.PID, detail)
	if err != nil {
		return nil, err
	}
	return s, nil
}
