package upload

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/rs/zerolog"

	"github.com/beamprof/beamprof/profiles/text"
	"github.com/beamprof/beamprof/profiles/upload/limits"
	"github.com/beamprof/beamprof/profiles/upload/sinks"
	"github.com/beamprof/beamprof/profiles/upload/spool"
)

// Why a profile is dropped besides what package sinks and spool say.
const reasonSpool = "spool_error" // it could not be written to the queue

// How long to wait after a failure: at first, and at most.
var firstWait, longWait = 500 * time.Millisecond, 5 * time.Minute

const (
	lastWords  = 3 * time.Second // for what can be sent without waiting when Run ends
	maxWait    = 30 * time.Minute
	passAfter  = 8   // failures of a profile before the one behind it is tried
	maxMessage = 300 // bytes of an error that are kept
)

// worker sends the profiles of one queue to one sink.
type worker struct {
	config Config
	sink   sinks.Sink
	log    zerolog.Logger
	*state
	before    *worker     // whose queue to take over
	preparing *sync.Mutex // of the pipeline

	cancel context.CancelFunc
	done   chan struct{}
}

// state is what a worker leaves to the one that replaces it.
type state struct {
	queue *spool.Queue
	wake  chan struct{} // holds a token if the queue may have got longer

	mu     sync.Mutex
	counts SinkStats
}

// newWorker makes a worker with a queue in dir, or with that of another worker
// once that has stopped.
func newWorker(c Config, dir string, before *worker, preparing *sync.Mutex, log zerolog.Logger) (*worker, error) {
	sink, err := sinks.New(c)
	if err != nil {
		return nil, err
	}
	w := &worker{config: c, sink: sink, before: before, preparing: preparing, log: log.With().Str("sink", c.Name).Logger()}
	if before != nil {
		return w, nil
	}
	w.state = &state{wake: make(chan struct{}, 1), counts: SinkStats{Failures: map[string]uint64{}, Dropped: map[string]uint64{}}}
	w.queue, err = spool.Open(dir, w.limits(), w.state.drop)
	if err != nil {
		sink.Close()
		return nil, err
	}
	return w, nil
}

func (w *worker) limits() spool.Limits {
	return spool.Limits{MaxBytes: int64(w.config.Queue.MaxBytes), MaxAge: w.config.Queue.MaxAge}
}

// discard undoes newWorker.
func (w *worker) discard() {
	w.sink.Close()
	if w.before == nil {
		w.queue.Close()
	}
}

// takeOver takes the queue of the worker before, which has stopped, and returns it.
func (w *worker) takeOver() *worker {
	before := w.before
	if before != nil {
		w.state, w.before = before.state, nil
		w.queue.SetLimits(w.limits())
	}
	return before
}

func (w *worker) close(keepQueue bool) error {
	err := w.sink.Close()
	if !keepQueue {
		err = errors.Join(err, w.queue.Close())
	}
	return err
}

func (w *worker) push(at time.Time, payload []byte) error {
	if err := w.queue.Push(at, payload); err != nil {
		w.drop(reasonSpool)
		return err
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

func (s *state) drop(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Dropped[reason]++
}

func (w *worker) stats() SinkStats {
	profiles, bytes, oldest := w.queue.Size()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.counts
	s.Name, s.Type = w.config.Name, w.config.Type
	s.Failures, s.Dropped = maps.Clone(s.Failures), maps.Clone(s.Dropped)
	s.QueuedProfiles, s.QueuedBytes, s.OldestQueued = profiles, bytes, oldest
	return s
}

func (w *worker) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancel(ctx)
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		w.run(ctx)
	}()
}

func (w *worker) wait() {
	if w.done != nil {
		<-w.done
		w.cancel()
		w.done = nil
	}
}

func (w *worker) stop() {
	if w.done != nil {
		w.cancel()
		w.wait()
	}
}

// parcel is a profile on its way.
type parcel struct {
	number   uint64
	failures int
	report   limits.Report // what was left out
	deliver  sinks.Delivery
}

// run sends until the context ends, and lastWords longer if nothing fails.
func (w *worker) run(ctx context.Context) {
	sending, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })()

	wait := &backoff.ExponentialBackOff{
		InitialInterval: firstWait, RandomizationFactor: 0.5, Multiplier: 2, MaxInterval: longWait,
	}
	wait.Reset()
	var first *parcel
	for {
		pause, idle := time.Duration(0), false
		switch failure, err := w.attempt(sending, &first); {
		case err != nil:
			w.note(sinks.ReasonLocal, err)
			pause = wait.NextBackOff()
		case failure != nil:
			pause = min(max(wait.NextBackOff(), failure.After), maxWait)
		case first == nil:
			idle = true
		default:
			wait.Reset()
			first = nil
		}
		if ctx.Err() != nil && (idle || pause > 0) || sending.Err() != nil {
			return
		}
		if idle || pause > 0 {
			w.rest(ctx, pause, idle)
		}
	}
}

// rest waits: for so long, or if idle for something to be in the queue. Once a
// minute it returns at any rate, so that what is too old is dropped in time.
func (w *worker) rest(ctx context.Context, pause time.Duration, idle bool) {
	wake := w.wake
	if idle {
		pause = time.Minute
	} else {
		wake = nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-wake:
	case <-timer.C:
	}
}

// attempt sends the first profile of the queue once. first is nil afterwards if
// the queue is empty. An error is one of the queue.
func (w *worker) attempt(ctx context.Context, first **parcel) (*sinks.Failure, error) {
	next, err := w.next(0, *first)
	if err != nil {
		return nil, err
	}
	*first = next
	if next == nil {
		return nil, nil
	}
	failure := w.deliver(ctx, next)
	if failure != nil && !failure.Outage && next.failures >= passAfter {
		failure, err = w.pass(ctx, next, failure)
	}
	return failure, err
}

// pass tells an outage from a profile that the server cannot bear, though it
// does not say so: then the one behind it can be sent. If so, and the first
// fails once more, it is dropped, lest it keep back all that follow.
func (w *worker) pass(ctx context.Context, first *parcel, failure *sinks.Failure) (*sinks.Failure, error) {
	second, err := w.next(first.number, nil)
	if second == nil || err != nil {
		return failure, err
	}
	if w.deliver(ctx, second) != nil {
		return failure, nil
	}
	if failure = w.deliver(ctx, first); failure != nil && ctx.Err() == nil {
		w.giveUp(first.number, failure.Reason)
		failure = nil
	}
	return failure, nil
}

// next returns the first profile of the queue behind a number, known if it is
// the known one. Profiles that cannot be sent are dropped on the way.
func (w *worker) next(after uint64, known *parcel) (*parcel, error) {
	for {
		item, err := w.queue.Next(after, time.Now())
		if item == nil || err != nil {
			return nil, err
		}
		if known != nil && known.number == item.Number {
			return known, nil
		}
		profile, err := unmarshal(item.Payload)
		var report limits.Report
		var deliver sinks.Delivery
		if err == nil {
			w.preparing.Lock()
			deliver, report, err = w.sink.Prepare(profile)
			w.preparing.Unlock()
		}
		if err != nil {
			w.note(sinks.ReasonInvalid, err)
			w.giveUp(item.Number, sinks.ReasonInvalid)
			continue
		}
		return &parcel{number: item.Number, report: report, deliver: deliver}, nil
	}
}

// deliver sends a profile once and returns nil if that is the end of it.
func (w *worker) deliver(ctx context.Context, p *parcel) *sinks.Failure {
	if p.failures > 0 {
		w.mu.Lock()
		w.counts.Retries++
		w.mu.Unlock()
	}
	attempt, cancel := context.WithTimeout(ctx, w.config.Timeout)
	defer cancel()
	err := p.deliver(attempt)
	if err == nil {
		sent := w.queue.Remove(p.number)
		w.mu.Lock()
		defer w.mu.Unlock()
		if sent { // else Push made room meanwhile, and it is counted as dropped
			w.counts.Sent++
			w.counts.Folded += uint64(p.report.Folded)
			w.counts.Cut += uint64(p.report.Cut)
			w.counts.LabelsLeftOut += uint64(p.report.Labels)
		}
		if w.counts.LastErrorTime.After(w.counts.LastSuccess) {
			w.log.Info().Msg("profiles are taken again")
		}
		w.counts.LastSuccess = time.Now()
		return nil
	}
	var failure *sinks.Failure
	if !errors.As(err, &failure) {
		failure = &sinks.Failure{Reason: sinks.ReasonNetwork, Err: err}
	}
	p.failures++
	w.note(failure.Reason, failure)
	if failure.Final {
		w.giveUp(p.number, failure.Reason)
		return nil
	}
	return failure
}

// note counts a failed attempt and logs the first of its kind in a row.
func (w *worker) note(reason string, err error) {
	message := limits.Short(text.Clean(err.Error()), maxMessage)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Failures[reason]++
	if w.counts.LastError != message || w.counts.LastSuccess.After(w.counts.LastErrorTime) {
		w.log.Warn().Str("reason", reason).Str("error", message).Msg("a profile was not taken")
	}
	w.counts.LastError, w.counts.LastErrorTime = message, time.Now()
}

func (w *worker) giveUp(number uint64, reason string) {
	if w.queue.Remove(number) {
		w.drop(reason)
	}
}
