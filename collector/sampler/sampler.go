// Package sampler takes samples of a running VM: it attaches the kernel side's
// sampling program to every CPU, reads its records and turns each into a
// collector.Sample. Its way through: sampler.go (session) → record.go (what the
// kernel side sent) → decoder.go (one stack of kernel, native and Erlang frames)
// → erlang.go, frames.go, state.go, people.go (what the parts mean).
package sampler

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/native"
)

// ErrTargetExited says that the VM ended while it was sampled.
var ErrTargetExited = errors.New("the VM exited")

// MaxFrequency is the highest sampling frequency, in Hz.
const MaxFrequency = 4999

// Options of a session.
type Options struct {
	Frequency int // Hz, 1 to MaxFrequency
}

// Session samples one VM from Open to Close.
type Session struct {
	target    *beam.Target
	options   Options
	programs  *bpf.Programs
	events    *perfEvents
	codeProbe link.Link // nil if uprobes are not possible: the code list is polled
	space     *native.Space
	decoder   *decoder
	stats     Stats
	start     processTimes // when sampling began
	last      processTimes // when the VM was last seen
	times     *threadTimes

	raw     perf.Record
	pending pending
	record  record
	flushed uint64 // time of the newest record handled
	looked  bool   // for new mappings, since the last flush
}

// How much of each CPU's output buffer may fill before it is read, and how long
// a record waits at most.
const (
	bufferSeconds = 0.5
	recordSize    = 8 << 10 // typical
	minBuffer     = 256 << 10
	maxBuffer     = 8 << 20
	readInterval  = 200 * time.Millisecond
	housekeeping  = time.Second // between looks at the process and the CPUs
)

// Open attaches the sampler to a VM. Sampling begins with Run. Errors wrap
// os.ErrPermission if privileges are missing.
func Open(target *beam.Target, options Options) (*Session, error) {
	if options.Frequency < 1 || options.Frequency > MaxFrequency {
		return nil, fmt.Errorf("a frequency of %d Hz is out of range: choose 1 to %d", options.Frequency, MaxFrequency)
	}
	s := &Session{target: target, options: options}
	if err := s.open(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) open() (err error) {
	if s.space, err = native.Open(s.target.PID); err != nil {
		return err
	}
	if s.programs, err = bpf.Load(); err != nil {
		return err
	}
	s.decoder = newDecoder(s.target, s.space)
	for _, scheduler := range s.target.Schedulers {
		where := bpf.Scheduler{Data: scheduler.Data}
		if scheduler.Kind == collector.ThreadScheduler {
			where.Registers = scheduler.Registers
		}
		if err := s.programs.AddScheduler(scheduler.TID, where); err != nil {
			return err
		}
	}
	s.attachCodeProbe()
	s.events = newPerfEvents(s.programs.Sample.FD(), s.options.Frequency)
	return nil
}

// attachCodeProbe asks to be told of code that is loaded. Where uprobes are not
// possible the list of code is looked at before every batch of samples instead.
func (s *Session) attachCodeProbe() {
	executable, err := link.OpenExecutable(fmt.Sprintf("/proc/%d/exe", s.target.PID))
	if err != nil {
		return
	}
	if probe, err := executable.Uprobe("__jit_debug_register_code", s.programs.Code, nil); err == nil {
		s.codeProbe = probe
	}
}

// kernelTarget says where the kernel side finds what it copies.
func (s *Session) kernelTarget() bpf.Target {
	l := s.target.Layout
	return bpf.Target{
		CurrentProcess: uint32(l.Scheduler.CurrentProcess), CurrentPort: uint32(l.Scheduler.CurrentPort),
		ProcessId: uint32(l.Process.ID), ProcessStop: uint32(l.Process.Stop), ProcessHeap: uint32(l.Process.Heap),
		ProcessHend: uint32(l.Process.HEnd), ProcessDictionary: uint32(l.Process.Dictionary),
		ProcessRegistered: uint32(l.Process.Registered), RegisteredName: uint32(l.Name.Name),
		DictionaryMask: uint32(l.Dictionary.SizeMask), DictionarySize: uint32(l.Dictionary.UsedSlots), DictionarySlots: uint32(l.Dictionary.Slots),
		ProcessSlots: s.target.ProcessSlots(), PidIndexShift: uint32(l.PID.IndexShift), PidIndexMask: s.target.ProcessIndexMask(),
		InitialCall: s.initialCall(),
	}
}

// initialCall returns the atom $initial_call, or 0 in a VM that has no proc_lib.
func (s *Session) initialCall() uint64 {
	term, _ := s.target.AtomNamed("$initial_call")
	return term
}

// Run samples until ctx is done, and calls handle for every sample, from this
// goroutine. It returns nil when ctx ended it, ErrTargetExited when the VM went
// away; what was sampled until then was handled in both cases.
func (s *Session) Run(ctx context.Context, handle func(*collector.Sample)) error {
	reader, err := s.newReader()
	if err != nil {
		return err
	}
	defer func() { reader.Close() }()
	if err := s.begin(); err != nil {
		return err
	}
	err = s.loop(ctx, &reader, handle)
	s.events.close()
	if e := s.programs.RemoveTarget(s.target.PID); e != nil && err == nil {
		err = fmt.Errorf("ending the sampling: %w", e)
	}
	s.end()
	if e := s.batch(reader, time.Now(), handle); e != nil && err == nil {
		err = e
	}
	if e := s.count(); e != nil && err == nil {
		err = e
	}
	s.stats.ThreadSamples = s.times.samples
	s.stats.ThreadSeconds = s.times.byLabel(s.decoder.threads.label)
	s.stats.KernelNames = s.decoder.frames.nameKernel()
	return err
}

// begin starts the clocks and takes the process's times for the comparison.
func (s *Session) begin() error {
	s.stats = Stats{Start: time.Now(), Frequency: s.options.Frequency}
	if _, err := s.events.update(); err != nil {
		return err
	}
	start, err := readProcessTimes(s.target.PID)
	if err != nil {
		return ErrTargetExited
	}
	s.start, s.last = start, start
	s.times = newThreadTimes(s.target.PID, s.options.Frequency)
	return s.programs.AddTarget(s.target.PID, s.kernelTarget())
}

// end takes the process's times again; if it is gone, those it had last.
func (s *Session) end() {
	s.stats.Duration = time.Since(s.stats.Start)
	if now, err := readProcessTimes(s.target.PID); err == nil && now.started == s.start.started {
		s.last = now
		s.times.stop(s.target.PID)
	}
	s.stats.ProcessSeconds = s.last.cpu - s.start.cpu
}

// count takes the kernel side's counters: what it saw and we did not is lost.
func (s *Session) count() error {
	seen, _, err := s.programs.Counts()
	if err != nil {
		return err
	}
	if handled := s.stats.Samples + s.stats.Malformed; seen > handled {
		s.stats.Lost = seen - handled
	}
	return nil
}

// Stats returns the counts of the session; complete when Run has returned.
func (s *Session) Stats() Stats { return s.stats }

func (s *Session) newReader() (*perf.Reader, error) {
	size := int(float64(s.options.Frequency) * bufferSeconds * recordSize)
	size = max(minBuffer, min(maxBuffer, size))
	reader, err := perf.NewReaderWithOptions(s.programs.Events, size, perf.ReaderOptions{Watermark: size / 4})
	if err != nil {
		return nil, fmt.Errorf("opening the output buffers: %w", err)
	}
	return reader, nil
}

// loop handles batches of records until ctx is done or the VM is gone.
func (s *Session) loop(ctx context.Context, reader **perf.Reader, handle func(*collector.Sample)) error {
	checked := time.Now()
	for ctx.Err() == nil {
		if err := s.batch(*reader, time.Now().Add(readInterval), handle); err != nil {
			return err
		}
		if time.Since(checked) < housekeeping {
			continue
		}
		checked = time.Now()
		times, err := readProcessTimes(s.target.PID)
		if err != nil || times.started != s.start.started {
			return ErrTargetExited
		}
		s.last = times
		s.decoder.threads.forgetNames()
		if err := s.followCPUs(reader, handle); err != nil {
			return err
		}
	}
	return nil
}

// followCPUs starts the clocks of CPUs that came online, and gives them an
// output buffer: the reader makes one per CPU that is online when it is opened.
func (s *Session) followCPUs(reader **perf.Reader, handle func(*collector.Sample)) error {
	came, err := s.events.update()
	if err != nil || !came {
		return err
	}
	next, err := s.newReader()
	if err != nil {
		return err
	}
	err = s.batch(*reader, time.Now(), handle)
	(*reader).Close()
	*reader = next
	return err
}

// batch reads records until the deadline and handles them in the order of
// their times, over all CPUs.
func (s *Session) batch(reader *perf.Reader, deadline time.Time, handle func(*collector.Sample)) error {
	reader.SetDeadline(deadline)
	for {
		err := reader.ReadInto(&s.raw)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			s.flush(handle)
			return nil
		case perf.IsUnknownEvent(err):
			continue
		case err != nil:
			return fmt.Errorf("reading samples: %w", err)
		}
		// What did not fit is counted by the kernel side too, once; see count.
		if s.raw.LostSamples == 0 {
			s.pending.add(s.raw.RawSample)
		}
		if s.pending.full() {
			s.flush(handle)
		}
	}
}

// flush handles what was read.
func (s *Session) flush(handle func(*collector.Sample)) {
	if len(s.pending.records) == 0 {
		return
	}
	if s.codeProbe == nil {
		s.refreshCode(s.flushed)
	}
	s.looked = false
	s.pending.sort()
	for _, p := range s.pending.records {
		s.flushed = max(s.flushed, p.time)
		raw := s.pending.bytes[p.from:p.to]
		switch recordType(raw) {
		case bpf.RecordCode:
			s.refreshCode(p.time)
		case bpf.RecordSample:
			s.one(raw, handle)
		}
	}
	s.pending.reset()
}

// one handles one sample.
func (s *Session) one(raw []byte, handle func(*collector.Sample)) {
	if err := s.record.parse(raw); err != nil {
		s.stats.Malformed++
		return
	}
	sample := s.decoder.decode(&s.record)
	if !s.looked && s.decoder.frames.unmapped { // a library that was loaded since?
		s.looked = true
		if err := s.decoder.refresh(); err != nil {
			s.stats.MapErrors++
		}
		sample = s.decoder.decode(&s.record)
	}
	s.stats.add(sample)
	s.times.add(sample.Thread)
	handle(sample)
}

// refreshCode looks for JIT code that came or went by the time at.
func (s *Session) refreshCode(at uint64) {
	if _, err := s.target.Code.Refresh(at); err != nil {
		s.stats.CodeErrors++
	}
}

// Close detaches everything. The session's frames and samples stay valid.
func (s *Session) Close() error {
	var errs []error
	if s.events != nil {
		s.events.close()
	}
	if s.codeProbe != nil {
		errs = append(errs, s.codeProbe.Close())
	}
	if s.programs != nil {
		errs = append(errs, s.programs.Close())
	}
	return errors.Join(errs...)
}
