// Package connections tells of the TCP connections to a VM's listeners: who
// opened and closed them and how long they lasted, from raw tracepoints where
// sockets change their state; and what MQTT clients said first, from a filter on
// a packet socket. The VM is not touched.
//
// Its way through: listeners.go (where the VM listens) → learn.go (its network
// namespace, as the kernel knows it) → packets.go (the filter) → record.go,
// speech.go (what the kernel side says) → table.go (one Connection from first to
// last).
package connections

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/ordered"
	"github.com/beamprof/beamprof/internal/pace"
)

// Detail is how much is looked at.
type Detail int

// The details.
const (
	CountOnly Detail = iota // who opened and closed connections
	Full                    // and what clients said first
)

// Totals are exact, also if events are lost.
type Totals struct {
	Listener       *Listener
	Opened, Closed uint64 // in the session; closed ones may have been opened before it
	ClosedByPeer   uint64 // of Closed
	ClosedByTarget uint64 // of Closed
}

// Stats are what a session could not do.
type Stats struct {
	Detail    Detail // what was possible
	NoSpeech  error  // why it was not looked at what clients say, or not to the end, although that was asked for
	Lost      uint64 // events that did not arrive; the totals have them
	Uncounted uint64 // changes of sockets, of any process, that may be missing in the totals
	Malformed uint64 // records that make no sense
}

// Session looks at the connections of one VM from Open to Close.
type Session struct {
	pid       int
	programs  *bpf.ConnectionPrograms
	links     []link.Link
	reader    *perf.Reader
	settings  bpf.ConnectionSettings
	listeners *listeners
	table     *table
	packets   atomic.Pointer[packets] // nil if it is not looked at what clients say, or if the VM does not listen yet
	detail    Detail
	noSpeech  atomic.Pointer[error] // why it is not looked at what clients say, if it should be
	pending   ordered.Records
	malformed atomic.Uint64

	mutex   sync.Mutex // guards what follows
	running bool
	waiting []chan struct{} // who waits in Flush
}

// Buffers of all CPUs together, in bytes, and of one at least and at most.
const (
	buffers       = 16 << 20
	smallest      = 256 << 10
	largest       = 4 << 20
	closeInterval = 20 * time.Millisecond // for what happened just before the end
)

// Open finds the listeners of the process pid and attaches. Counting begins with
// Run. Where the filter of what clients say is not possible it goes on without,
// and Stats says why. Errors wrap os.ErrPermission if privileges are missing.
func Open(pid int, detail Detail) (_ *Session, err error) {
	s := &Session{pid: pid, detail: detail}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.programs, err = bpf.LoadConnections(); err != nil {
		return nil, err
	}
	if s.listeners, err = findListeners(pid, s.programs); err != nil {
		return nil, err
	}
	if err := s.openPackets(); err != nil {
		s.detail = CountOnly
		s.noSpeech.Store(&err)
	}
	for _, one := range []struct {
		tracepoint string
		program    *ebpf.Program
	}{
		{"tcp_receive_reset", s.programs.Reset},
		{"inet_sock_set_state", s.programs.FromOutside},
		{"inet_sock_set_state", s.programs.FromTarget},
	} {
		attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: one.tracepoint, Program: one.program})
		if err != nil {
			return nil, fmt.Errorf("attach to the tracepoint %s: %w", one.tracepoint, err)
		}
		s.links = append(s.links, attached)
	}
	if s.settings, err = learn(pid, s.programs); err != nil {
		return nil, err
	}
	s.reader, err = perf.NewReaderWithOptions(s.programs.Events, bufferSize(), perf.ReaderOptions{Watermark: smallest / 4})
	if err != nil {
		return nil, fmt.Errorf("opening the output buffers of the probe of connections: %w", err)
	}
	s.table = newTable(s.listeners)
	return s, nil
}

// openPackets opens the filter of what clients say, unless it is open or was, or
// nobody can connect to the VM: it costs the host something for every packet.
func (s *Session) openPackets() error {
	if s.detail != Full || s.packets.Load() != nil || s.noSpeech.Load() != nil || len(s.listeners.list()) == 0 {
		return nil
	}
	p, err := openPackets(s.pid, s.programs)
	if err != nil {
		return err
	}
	s.packets.Store(p)
	return s.listeners.tell(p)
}

func bufferSize() int {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return smallest
	}
	return min(max(buffers/cpus, smallest), largest)
}

// Run counts until ctx is done, and calls handle for every event, in the order
// of their times, from this goroutine. Events are handle's to keep.
func (s *Session) Run(ctx context.Context, handle func(Event)) error {
	if err := s.programs.Set(s.settings); err != nil {
		return err
	}
	s.setRunning(true)
	defer s.setRunning(false)
	stop := context.AfterFunc(ctx, func() { _ = s.reader.Flush() }) // fails if it is closed, and ends
	defer stop()
	for ctx.Err() == nil {
		if err := s.lookAtPackets(); err != nil {
			s.noSpeech.Store(&err)
		}
		if err := s.read(pace.Next(pace.Interval), handle); err != nil {
			return err
		}
	}
	if p := s.packets.Load(); p != nil {
		p.stop()
	}
	s.settings.Net = 0
	return errors.Join(s.programs.Set(s.settings), s.read(time.Now().Add(closeInterval), handle))
}

// Flush waits until what happened up to a moment ago was handled. It may be called
// while Run runs, from other goroutines; otherwise it does nothing.
func (s *Session) Flush() {
	done := make(chan struct{})
	s.mutex.Lock()
	if !s.running {
		s.mutex.Unlock()
		return
	}
	s.waiting = append(s.waiting, done)
	s.mutex.Unlock()
	_ = s.reader.Flush() // fails if it is closed: then Run ends
	<-done
}

// setRunning says whether somebody reads; who waits does so no longer if not.
func (s *Session) setRunning(running bool) {
	s.mutex.Lock()
	s.running = running
	s.mutex.Unlock()
	if !running {
		release(s.takeWaiting())
	}
}

func (s *Session) takeWaiting() []chan struct{} {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	waiting := s.waiting
	s.waiting = nil
	return waiting
}

func release(waiting []chan struct{}) {
	for _, done := range waiting {
		close(done)
	}
}

// lookAtPackets starts the filter of what clients say when it is time to, and
// stops it when it costs too much.
func (s *Session) lookAtPackets() error {
	if err := s.openPackets(); err != nil {
		return err
	}
	if p := s.packets.Load(); p != nil {
		return p.look()
	}
	return nil
}

// read reads what comes until a time and handles what cannot be overtaken any more.
func (s *Session) read(until time.Time, handle func(Event)) error {
	var record perf.Record
	var waiting []chan struct{}
	defer func() { release(waiting) }()
	s.reader.SetDeadline(until)
	for {
		record.RawSample = s.pending.Room()
		err := s.reader.ReadInto(&record)
		switch {
		case err == nil:
		case errors.Is(err, perf.ErrFlushed):
			waiting = append(waiting, s.takeWaiting()...)
			if s.settings.Net != 0 { // else this is the last look, which takes its time
				until = time.Now()
				s.reader.SetDeadline(until)
			}
			continue
		case errors.Is(err, os.ErrDeadlineExceeded):
			// All that was written before the deadline is read.
			limit := ordered.SafeUntil(until)
			if s.settings.Net == 0 {
				limit = ordered.All
			}
			s.handle(limit, handle)
			return nil
		case perf.IsUnknownEvent(err):
			continue
		default:
			return fmt.Errorf("reading connections: %w", err)
		}
		if record.LostSamples > 0 { // counted by the kernel side
			continue
		}
		if !s.pending.Add(record.RawSample) {
			s.malformed.Add(1)
		}
		if s.pending.Bytes() >= maxPending {
			s.handle(ordered.All, handle)
		}
	}
}

// maxPending is when records are handled before it is time, in bytes.
const maxPending = 8 << 20

func (s *Session) handle(limit uint64, handle func(Event)) {
	s.pending.Flush(limit, func(raw []byte) {
		var r record
		if r.parse(raw) {
			s.table.add(&r, handle)
		} else {
			s.malformed.Add(1)
		}
	})
}

// Totals returns what was counted for each listener, also those that nobody
// connected to. It may be called while Run runs, and is complete when that has
// returned.
func (s *Session) Totals() ([]Totals, error) {
	var all []Totals
	for _, l := range s.listeners.list() {
		sum, err := s.programs.Totals(l.number)
		if err != nil {
			return nil, err
		}
		all = append(all, Totals{Listener: l, Opened: sum.Opened, Closed: sum.Closed, ClosedByPeer: sum.ClosedByPeer, ClosedByTarget: sum.ClosedByTarget})
	}
	return all, nil
}

// Stats returns the counts of the session; complete when Run has returned.
func (s *Session) Stats() Stats {
	stats := Stats{Detail: s.detail, Malformed: s.malformed.Load()}
	if err := s.noSpeech.Load(); err != nil {
		stats.NoSpeech = *err
	}
	if failed, missed, err := s.programs.Lost(); err == nil {
		stats.Lost, stats.Uncounted = failed, missed
	}
	if p := s.packets.Load(); p != nil {
		if counts, err := p.program.Counts(); err == nil {
			stats.Lost += counts.OutputFailed
		}
	}
	return stats
}

// Close detaches everything.
func (s *Session) Close() error {
	var errs []error
	for _, l := range s.links {
		errs = append(errs, l.Close())
	}
	if s.reader != nil {
		errs = append(errs, s.reader.Close())
	}
	if p := s.packets.Load(); p != nil {
		errs = append(errs, p.close())
	}
	if s.programs != nil {
		errs = append(errs, s.programs.Close())
	}
	return errors.Join(errs...)
}
