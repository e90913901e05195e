package sampler

import (
	"context"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// Session samples one VM from Open to Close, in one window.
type Session struct {
	sampler *Sampler
	source  *Source
	stats   Stats
}

// Open attaches a sampler to a VM. Sampling begins with Run. Errors wrap
// os.ErrPermission if privileges are missing.
func Open(target *beam.Target, options Options) (*Session, error) {
	sampler, err := New(options)
	if err != nil {
		return nil, err
	}
	source, err := sampler.Add(target, nil)
	if err != nil {
		sampler.Close()
		return nil, err
	}
	return &Session{sampler: sampler, source: source}, nil
}

// Run samples until ctx is done, and calls handle for every sample, from this
// goroutine. It returns nil when ctx ended it, ErrTargetExited when the VM went
// away; what was sampled until then was handled in both cases.
func (s *Session) Run(ctx context.Context, handle func(*collector.Sample)) error {
	s.source.handle = handle
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.source.exit = func() { cancel(ErrTargetExited) }
	err := s.sampler.Run(ctx)
	s.stats = s.source.stats
	if err == nil && context.Cause(ctx) == ErrTargetExited {
		return ErrTargetExited
	}
	return err
}

// Stats returns the counts of the session; complete when Run has returned.
func (s *Session) Stats() Stats { return s.stats }

// Close detaches everything. The session's frames and samples stay valid.
func (s *Session) Close() error { return s.sampler.Close() }
