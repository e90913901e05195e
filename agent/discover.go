package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/text"
)

// refusal is why a VM is not profiled.
type refusal struct {
	reason string    // starting, unsupported, permission, failed; empty: not selected
	again  time.Time // when it is looked at again
}

// retryAfter is when a VM that cannot be profiled is tried again.
const retryAfter = time.Minute

// discover begins to profile the VMs that came, and forgets those that went.
func (e *engine) discover(ctx context.Context) {
	candidates, err := e.finder.Find(e.known)
	if err != nil {
		e.agent.options.Log.Warn().Err(err).Msg("cannot look for VMs")
		return
	}
	there := map[int]bool{}
	for _, c := range candidates {
		there[c.PID] = true
		if ctx.Err() != nil {
			return
		}
		if c.Err == nil && !e.config.Targets.selects(c) {
			e.mutex.Lock()
			e.refused[c.PID] = refusal{again: time.Now().Add(3 * e.config.Targets.Interval)}
			e.mutex.Unlock()
			continue
		}
		if err := e.attach(ctx, c); err != nil {
			e.refuse(c, err)
		}
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	for pid, r := range e.refused {
		if !there[pid] && time.Now().After(r.again) {
			delete(e.refused, pid)
		}
	}
}

// known tells whether a process need not be looked at now.
func (e *engine) known(pid int) bool {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	refused, ok := e.refused[pid]
	return e.vms[pid] != nil || ok && time.Now().Before(refused.again)
}

// attach begins to profile a VM.
func (e *engine) attach(ctx context.Context, c beam.Candidate) error {
	if c.Err != nil {
		return c.Err
	}
	v, err := newVM(e, c.PID)
	if errors.Is(err, beam.ErrNoProcess) || errors.Is(err, sampler.ErrTargetExited) {
		return nil
	}
	if err != nil {
		return err
	}
	e.mutex.Lock()
	delete(e.refused, c.PID)
	e.vms[c.PID] = v
	e.mutex.Unlock()
	e.agent.options.Log.Info().Msgf("profiling %s", v.name())
	e.ended.Go(func() {
		v.run(ctx)
		e.mutex.Lock()
		delete(e.vms, c.PID)
		e.mutex.Unlock()
	})
	return nil
}

// refuse notes that a VM cannot be profiled, and says so once.
func (e *engine) refuse(c beam.Candidate, err error) {
	r := refusal{again: time.Now().Add(retryAfter)}
	switch {
	case errors.Is(err, beam.ErrStarting):
		r.reason, r.again = "starting", time.Time{}
	case errors.Is(err, beam.ErrUnsupported):
		r.reason = "unsupported"
	case errors.Is(err, beam.ErrPermission), errors.Is(err, os.ErrPermission):
		r.reason = "permission"
	default:
		r.reason = "failed"
	}
	e.mutex.Lock()
	before := e.refused[c.PID]
	e.refused[c.PID] = r
	e.mutex.Unlock()
	if before.reason != r.reason && r.reason != "starting" {
		e.agent.options.Log.Warn().Msgf("the VM %s with pid %d is not profiled: %v", text.Clean(c.Node), c.PID, err)
	}
}

// selects tells whether a VM is to be profiled.
func (t *Targets) selects(c beam.Candidate) bool {
	if len(t.nodes)+len(t.commands) == 0 {
		return true
	}
	for _, pattern := range t.nodes {
		if pattern.MatchString(c.Node) {
			return true
		}
	}
	if len(t.commands) == 0 {
		return false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.PID))
	if err != nil {
		return false
	}
	command := strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	for _, pattern := range t.commands {
		if pattern.MatchString(command) {
			return true
		}
	}
	return false
}
