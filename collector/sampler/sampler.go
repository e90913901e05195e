// Package sampler takes samples of running VMs: it attaches the kernel side's
// sampling program to every CPU, reads its records and turns each into a
// collector.Sample. Its way through: sampler.go (one sampler for all VMs) →
// read.go (records of all CPUs in the order of their times) → source.go (one
// VM, its windows) → record.go (what the kernel side sent) → decoder.go (one
// stack of kernel, native and Erlang frames) → erlang.go, frames.go, state.go,
// people.go (what the parts mean). session.go is the short way for one VM.
package sampler

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/ordered"
	"github.com/beamprof/beamprof/internal/pace"
)

// ErrTargetExited says that the VM ended while it was sampled.
var ErrTargetExited = errors.New("the VM exited")

// MaxFrequency is the highest sampling frequency, in Hz.
const MaxFrequency = 4999

// Options of a sampler.
type Options struct {
	Frequency int // Hz, 1 to MaxFrequency
}

// Sampler samples VMs: one set of programs, clocks and output buffers for all.
// VMs come (Add) and go (Source.Remove) while it runs. What is done to a Source
// is done by the goroutine that runs it, between two batches of records.
type Sampler struct {
	options  Options
	programs *bpf.Programs
	events   *perfEvents
	kernel   kernelNames
	sources  map[uint32]*Source // by pid

	mutex    sync.Mutex // guards what follows
	running  bool       // written by the goroutine that runs
	requests []request

	// Of the goroutine that runs.
	reader  *perf.Reader // of samples
	code    *perf.Reader // of changes of code
	raw     perf.Record
	pending ordered.Records
	late    []ordered.Record // of pending: samples of processes without a name, and changes of code
	record  record
	flushed uint64 // time of the newest record handled
}

// request is something to be done between two batches.
type request struct {
	do   func()
	done chan struct{}
}

// How much of each CPU's output buffer may fill before it is read, and how long
// a record waits at most.
const (
	bufferSeconds = 2
	recordSize    = 8 << 10 // typical
	minBuffer     = 256 << 10
	maxBuffer     = 8 << 20
	maxWatermark  = 1 << 20     // so much is read at once: the rest is for when we get no CPU
	codeBuffer    = 256 << 10   // 4000 changes, read with each batch
	codeInterval  = time.Second // at most, if JIT code has to be looked for
	housekeeping  = time.Second // at least, between looks at the processes and the CPUs
)

// firstIntervals are the first ones between batches, then it is pace.Interval. The
// first samples are handled soon, and of what is sampled first most is new.
var firstIntervals = []time.Duration{25 * time.Millisecond, 50 * time.Millisecond, 250 * time.Millisecond, time.Second}

// New loads the sampling programs. Sampling begins with Run. Errors wrap
// os.ErrPermission if privileges are missing.
func New(options Options) (*Sampler, error) {
	if options.Frequency < 1 || options.Frequency > MaxFrequency {
		return nil, fmt.Errorf("a frequency of %d Hz is out of range: choose 1 to %d", options.Frequency, MaxFrequency)
	}
	programs, err := bpf.Load()
	if err != nil {
		return nil, err
	}
	return &Sampler{
		options: options, programs: programs, events: newPerfEvents(programs.Sample.FD(), options.Frequency),
		sources: map[uint32]*Source{},
	}, nil
}

// Run samples until ctx is done. When it returns, all that was sampled was
// handled, and the last window of every source can be cut. It runs once.
func (s *Sampler) Run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	err := s.loop(ctx)
	s.events.close()
	for _, source := range s.sources {
		err = errors.Join(err, source.stop())
	}
	err = errors.Join(err, s.rest(), s.reader.Close(), s.code.Close())
	for _, source := range s.sources {
		source.count()
	}
	s.mutex.Lock()
	s.running = false
	s.mutex.Unlock()
	s.serve()
	return err
}

// begin opens the output buffers, starts the clocks, and adds the sources that
// are there already.
func (s *Sampler) begin() (err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.reader, s.code, err = s.newReaders(); err != nil {
		return err
	}
	_, err = s.events.update()
	for _, source := range s.sources {
		if err == nil {
			err = source.start()
		}
	}
	if err != nil {
		s.events.close()
		s.reader.Close()
		s.code.Close()
		return err
	}
	s.running = true
	return nil
}

// loop handles batches of records until ctx is done.
func (s *Sampler) loop(ctx context.Context) error {
	defer context.AfterFunc(ctx, s.wake)()
	checked := time.Now()
	for batch := 0; ctx.Err() == nil; batch++ {
		interval := s.longest()
		if batch < len(firstIntervals) {
			interval = firstIntervals[batch]
		}
		if err := s.batch(pace.Next(interval)); err != nil {
			return err
		}
		s.serve()
		if time.Since(checked) < housekeeping && !s.ended() {
			continue
		}
		checked = time.Now()
		for _, source := range s.sources {
			source.look()
		}
		if err := s.followCPUs(); err != nil {
			return err
		}
	}
	return nil
}

// ended tells whether a VM did, and was not found to have yet.
func (s *Sampler) ended() bool {
	for _, source := range s.sources {
		if source.ended.Load() && !source.exited {
			return true
		}
	}
	return false
}

// longest returns how long a batch may be.
func (s *Sampler) longest() time.Duration {
	for _, source := range s.sources {
		if source.codeProbe == nil {
			return codeInterval
		}
	}
	return pace.Interval
}

// do has f done between two batches, when all that was sampled until then is
// handled, and waits for it. If the sampler does not run, f is done at once.
func (s *Sampler) do(f func()) {
	s.mutex.Lock()
	if !s.running {
		defer s.mutex.Unlock()
		f()
		return
	}
	r := request{f, make(chan struct{})}
	s.requests = append(s.requests, r)
	s.mutex.Unlock()
	s.wake()
	<-r.done
}

// wake ends the batch that is being read.
func (s *Sampler) wake() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	_ = s.reader.Flush() // fails if it is closed: then nobody reads
}

// serve does what was asked for.
func (s *Sampler) serve() {
	s.mutex.Lock()
	requests := s.requests
	s.requests = nil
	s.mutex.Unlock()
	for _, r := range requests {
		r.do()
		close(r.done)
	}
}

func (s *Sampler) newReaders() (samples, code *perf.Reader, err error) {
	size := int(float64(s.options.Frequency) * bufferSeconds * recordSize)
	size = max(minBuffer, min(maxBuffer, size))
	samples, err = perf.NewReaderWithOptions(s.programs.Events, size, perf.ReaderOptions{Watermark: min(size/2, maxWatermark)})
	if err == nil {
		code, err = perf.NewReaderWithOptions(s.programs.CodeEvents, codeBuffer, perf.ReaderOptions{Watermark: codeBuffer / 2})
	}
	if err != nil {
		if samples != nil {
			samples.Close()
		}
		return nil, nil, fmt.Errorf("opening the output buffers: %w", err)
	}
	return samples, code, nil
}

// followCPUs starts the clocks of CPUs that came online, and gives them an
// output buffer: the reader makes one per CPU that is online when it is opened.
func (s *Sampler) followCPUs() error {
	came, err := s.events.update()
	if err != nil || !came {
		return err
	}
	samples, code, err := s.newReaders()
	if err != nil {
		return err
	}
	err = s.rest()
	s.reader.Close()
	s.code.Close()
	s.mutex.Lock()
	s.reader, s.code = samples, code
	s.mutex.Unlock()
	return err
}

// Close detaches everything. Frames and samples stay valid.
func (s *Sampler) Close() error {
	s.events.close()
	var errs []error
	for _, source := range s.sources {
		errs = append(errs, source.close())
	}
	return errors.Join(append(errs, s.kernel.close(), s.programs.Close())...)
}
