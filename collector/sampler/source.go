package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/prometheus/procfs"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/collector/native"
)

// Source is one VM that is sampled, from Add to Remove. Its samples are counted
// in windows without gaps between them: see Cut.
type Source struct {
	sampler     *Sampler
	target      *beam.Target
	process     procfs.Proc
	codeProbe   link.Link   // nil if uprobes are not possible: the code list is polled
	codeEvents  []jit.Event // that no look at the code took in yet
	codeChanged bool        // between the samples of this flush
	space       *native.Space
	decoder     *decoder
	handle      func(*collector.Sample)
	looked      bool        // for new mappings, since the last flush
	unwatch     func()      // ends what waits for the VM's end, if not nil
	watched     bool        // the VM's end will be told
	ended       atomic.Bool // it was
	exited      bool        // it was found to be so
	exit        func()      // called once when the VM was found to have ended, if not nil

	stats   Stats        // of this window
	base    processTimes // when it began
	last    processTimes // when the VM was last seen
	times   *threadTimes // of this window
	seen    uint64       // by the kernel side, since the VM was added
	handled uint64       // of these
	lost    uint64       // of these, already counted as lost
}

// Add begins to sample a VM, now or when Run begins, and calls handle for every
// sample, from the goroutine that runs: it must not wait for anything. Errors
// wrap ErrTargetExited if the VM ended, os.ErrPermission if privileges are
// missing.
func (s *Sampler) Add(target *beam.Target, handle func(*collector.Sample)) (*Source, error) {
	source := &Source{sampler: s, target: target, handle: handle, times: threadTimesFrom(nil, 0)}
	if err := source.prepare(); err != nil {
		return nil, errors.Join(err, source.close())
	}
	var err error
	s.do(func() {
		if s.sources[source.pid()] != nil {
			err = fmt.Errorf("process %d is sampled already", target.PID)
			return
		}
		if s.running {
			err = source.start()
		}
		if err == nil {
			s.sources[source.pid()] = source
		}
	})
	if err != nil {
		return nil, errors.Join(err, source.close())
	}
	return source, nil
}

func (c *Source) pid() uint32 { return uint32(c.target.PID) }

// prepare does what needs no goroutine of its own.
func (c *Source) prepare() (err error) {
	if c.process, err = procfs.NewProc(c.target.PID); err != nil {
		return fmt.Errorf("%w: %w", ErrTargetExited, err)
	}
	if c.space, err = native.Open(c.target.PID); err != nil {
		return err
	}
	c.decoder = newDecoder(c.target, c.space)
	for _, scheduler := range c.target.Schedulers {
		where := bpf.Scheduler{Data: scheduler.Data}
		if scheduler.Kind == collector.ThreadScheduler {
			where.Registers = scheduler.Registers
		}
		if err := c.sampler.programs.AddScheduler(scheduler.TID, where); err != nil {
			return err
		}
	}
	c.attachCodeProbe()
	return nil
}

// attachCodeProbe asks to be told of code that is loaded. Where uprobes are not
// possible the list of code is looked at before every batch of samples instead.
func (c *Source) attachCodeProbe() {
	executable, err := link.OpenExecutable(fmt.Sprintf("/proc/%d/exe", c.target.PID))
	if err != nil {
		return
	}
	options := &link.UprobeOptions{PID: c.target.PID}
	address, _ := c.target.Symbol(codeFunction)
	if m, ok := c.space.Find(address); ok { // else all symbols are read once more
		options.Address = address - m.Start + m.Offset
	}
	if probe, err := executable.Uprobe(codeFunction, c.sampler.programs.Code, options); err == nil {
		c.codeProbe = probe
	}
}

// codeFunction is called for all JIT code that comes or goes, so that a debugger
// has a place for a breakpoint (GDB's JIT interface).
const codeFunction = "__jit_debug_register_code"

// kernelTarget says where the kernel side finds what it copies.
func (c *Source) kernelTarget() bpf.Target {
	l := c.target.Layout
	initialCall, _ := c.target.AtomNamed("$initial_call") // 0 in a VM that has no proc_lib
	decode, decodeLength := decoding(c.target)
	return bpf.Target{
		Decode: decode, DecodeLength: decodeLength,
		CurrentProcess: uint32(l.Scheduler.CurrentProcess), CurrentPort: uint32(l.Scheduler.CurrentPort), MatchProcess: uint32(l.Scheduler.MatchProcess), FreeProcess: uint32(l.Scheduler.FreeProcess),
		ProcessId: uint32(l.Process.ID), ProcessHtop: uint32(l.Process.HTop), ProcessStop: uint32(l.Process.Stop), ProcessHeap: uint32(l.Process.Heap),
		ProcessHend: uint32(l.Process.HEnd), ProcessDictionary: uint32(l.Process.Dictionary),
		ProcessScheduler: uint32(l.Process.Scheduler), ProcessRegistered: uint32(l.Process.Registered), RegisteredName: uint32(l.Name.Name),
		DictionaryMask: uint32(l.Dictionary.SizeMask), DictionarySize: uint32(l.Dictionary.UsedSlots), DictionarySlots: uint32(l.Dictionary.Slots),
		ProcessSlots: c.target.ProcessSlots(), PidIndexShift: uint32(l.PID.IndexShift), PidIndexMask: c.target.ProcessIndexMask(),
		InitialCall: initialCall, JitDescriptor: c.target.CodeDescriptor,
	}
}

// start begins the first window.
func (c *Source) start() error {
	c.stats = Stats{Start: time.Now(), Frequency: c.sampler.options.Frequency}
	times, err := readProcessTimes(c.process)
	if err != nil || times.ended {
		return ErrTargetExited
	}
	c.base, c.last = times, times
	c.unwatch, c.watched = watchExit(c.target.PID, func() {
		c.ended.Store(true)
		c.sampler.wake()
	})
	c.times = newThreadTimes(c.target.PID, c.sampler.options.Frequency)
	if err := c.sampler.programs.AddTarget(c.target.PID, c.kernelTarget()); err != nil {
		return err
	}
	if c.target.RefreshCode() != nil { // what came before the kernel side tells of it
		c.stats.CodeErrors++ // as later: the next look may succeed
	}
	return nil
}

// stop ends the sampling. What was sampled until then is still to be handled;
// count comes after that.
func (c *Source) stop() error {
	c.measure()
	errs := []error{c.sampler.programs.RemoveTarget(c.target.PID)}
	for _, scheduler := range c.target.Schedulers {
		errs = append(errs, c.sampler.programs.RemoveScheduler(scheduler.TID))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("ending the sampling of process %d: %w", c.target.PID, err)
	}
	return nil
}

// measure takes the process's times and the kernel side's count; if the process
// is gone, the times it had last.
func (c *Source) measure() {
	c.stats.Duration = time.Since(c.stats.Start)
	if now, err := readProcessTimes(c.process); err == nil && now.started == c.base.started {
		c.last = now
		if !now.ended {
			c.times.stop(c.target.PID)
		}
	}
	c.stats.ProcessSeconds = c.last.cpu - c.base.cpu
	if seen, err := c.sampler.programs.Samples(c.target.PID); err == nil {
		c.seen = seen
	}
}

// count ends the window: what the kernel side saw and we did not is lost. What
// was measured has to be handled before; ticks that came meanwhile are more, and
// the next window makes up for them.
func (c *Source) count() {
	c.handled += c.stats.Samples + c.stats.Malformed
	if missing := c.handled + c.lost; c.seen > missing {
		c.stats.Lost = c.seen - missing
		c.lost += c.stats.Lost
	}
	c.stats.ThreadSamples = c.times.samples
	c.stats.ThreadSeconds = c.times.byLabel(c.decoder.threads.label)
	c.stats.KernelNames = c.decoder.frames.nameKernel(&c.sampler.kernel)
}

// look finds out whether the VM is still there, and takes its times: when it is
// gone, these are its last ones.
func (c *Source) look() {
	if c.watched && !c.ended.Load() {
		if cpu, err := processClock(c.target.PID); err == nil {
			c.last.cpu = cpu
			return
		}
	}
	times, err := readProcessTimes(c.process)
	known := err == nil && times.started == c.base.started
	if known {
		c.last = times
	}
	if known && !times.ended {
		return
	}
	if !c.exited && c.exit != nil {
		c.exit()
	}
	c.exited = true
}

// sample handles one sample, or reports false if it should wait for its process's
// name, and need not be the last.
func (c *Source) sample(r *record, last bool) bool {
	sample := c.decoder.decode(r)
	if !c.looked && c.decoder.frames.unmapped { // a library that was loaded since?
		c.looked = true
		if err := c.decoder.refresh(); err != nil {
			c.stats.MapErrors++
		}
		sample = c.decoder.decode(r)
	}
	if !last && !c.decoder.sure {
		return false
	}
	c.stats.add(sample)
	c.times.add(sample.Thread)
	c.handle(sample)
	return true
}

func (c *Source) malformed() { c.stats.Malformed++ }

// codeEvent keeps what the kernel side told of JIT code, for refreshCode.
func (c *Source) codeEvent(raw []byte) {
	var r bpf.CodeRecord
	if n, err := binary.Decode(raw, binary.NativeEndian, &r); err != nil || n != binary.Size(r) {
		c.stats.CodeErrors++ // Malformed is for ticks
		return
	}
	c.codeEvents = append(c.codeEvents, jit.Event{Time: r.Time, Entry: r.Entry, Removed: r.Action == codeGoes})
}

// codeGoes is enum jit_actions' JIT_UNREGISTER_FN of GDB's JIT interface.
const codeGoes = 2

// refreshCode looks for JIT code that came or went by the time at.
func (c *Source) refreshCode(at uint64) {
	if _, err := c.target.Code.Refresh(at, c.codeEvents...); err != nil {
		c.stats.CodeErrors++
	}
	c.codeEvents = c.codeEvents[:0]
}

// Cut ends the window and begins the next one, whose samples go to handle. No
// sample is between them: when Cut returns, all samples of the window that ended
// were handled, their frames are named, and nothing changes them any more. It
// wraps ErrTargetExited if the VM is not there any more.
func (c *Source) Cut(handle func(*collector.Sample)) (ended Stats, err error) {
	c.sampler.do(func() {
		if c.sampler.running {
			c.measure()
			err = c.sampler.rest() // what was ticked until then is handled, or lost
			c.count()
		}
		ended = c.stats
		c.stats = Stats{Start: ended.Start.Add(ended.Duration), Frequency: ended.Frequency}
		c.base, c.handle = c.last, handle
		c.times = c.times.next()
		c.decoder.forget()
		if c.exited {
			err = errors.Join(ErrTargetExited, err)
		}
	})
	return ended, err
}

// Renew goes on with another Target of the same VM. All that is remembered of
// the old one is dropped, so that what a VM had once does not stay for good.
func (c *Source) Renew(target *beam.Target) error {
	space, err := native.Open(target.PID)
	if err != nil {
		return err
	}
	next := newDecoder(target, space)
	var old *native.Space
	c.sampler.do(func() {
		// Kernel frames of this window are named with it.
		next.frames.kernels = c.decoder.frames.kernels
		old, c.target, c.space, c.decoder = c.space, target, space, next
	})
	return old.Close()
}

// Remove ends the sampling of the VM and returns the last window.
func (c *Source) Remove() (Stats, error) {
	var err error
	c.sampler.do(func() {
		if c.sampler.running {
			err = errors.Join(c.stop(), c.sampler.rest())
			c.count()
		}
		delete(c.sampler.sources, c.pid())
	})
	return c.stats, errors.Join(err, c.close())
}

// close detaches what is the VM's own.
func (c *Source) close() error {
	var errs []error
	if c.unwatch != nil {
		c.unwatch()
		c.unwatch = nil
	}
	if c.codeProbe != nil {
		errs = append(errs, c.codeProbe.Close())
		c.codeProbe = nil
	}
	if c.space != nil {
		errs = append(errs, c.space.Close())
		c.space = nil
	}
	return errors.Join(errs...)
}
