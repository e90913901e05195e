package distribution

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/ordered"
)

// receivedFunction gets every packet from other nodes, after TLS.
const receivedFunction = "erts_net_message"

// Sizes of the output buffer of each CPU, in bytes: all of it, and how much is
// read at once.
const (
	buffer    = 2 << 20
	watermark = buffer / 16
)

// probes are the uprobes in one VM and what comes from them. They are in the VM
// for as much of the time as the budget allows.
type probes struct {
	target   *beam.Target
	detail   Detail
	sites    sites
	programs *bpf.DistributionPrograms
	links    []link.Link // none: the probes are not in the VM
	closing  chan error  // of links that are on their way out; nil if none is
	reader   *perf.Reader
	decoder  *decoder
	raw      perf.Record
	pending  ordered.Records
	looked   time.Time // when all buffers were looked at, or a little before
	budget   *budget
	weights  *weights
	resume   time.Time // when the probes may go in again

	messages uint64 // looked into
	reduced  bool   // from Full to Sampled
	counters bpf.DistributionCounts
}

// newProbes loads the probes. They are hit by nothing before attach.
func newProbes(target *beam.Target, detail Detail) (*probes, error) {
	if err := target.CheckMessages(); err != nil {
		return nil, err
	}
	p := &probes{target: target, detail: detail, decoder: newDecoder(target), weights: newWeights()}
	var err error
	if p.sites, err = findSites(p.executable(), int32(target.Layout.Sending.Phase)); err != nil {
		return nil, err
	}
	if p.programs, err = bpf.LoadDistribution(p.settings()); err != nil {
		return nil, err
	}
	for _, s := range target.Schedulers {
		if s.Kind != collector.ThreadScheduler {
			continue
		}
		if err := p.programs.AddStack(s.TID, s.Registers); err != nil {
			p.close()
			return nil, err
		}
	}
	p.reader, err = perf.NewReaderWithOptions(p.programs.Events, buffer, perf.ReaderOptions{Watermark: watermark})
	if err != nil {
		p.close()
		return nil, fmt.Errorf("opening the output buffers of the distribution's probes: %w", err)
	}
	return p, nil
}

// executable is the VM's, also if it is in a container.
func (p *probes) executable() string { return fmt.Sprintf("/proc/%d/exe", p.target.PID) }

// settings says where the kernel side finds what it copies.
func (p *probes) settings() bpf.Distribution {
	l := p.target.Layout
	return bpf.Distribution{
		Pid: uint32(p.target.PID), SendRegister: p.sites.register,
		SendControl: uint32(l.Sending.Control), SendMessage: uint32(l.Sending.Message), SendEntry: uint32(l.Sending.Entry),
		SendConnection: uint32(l.Sending.ConnectionID), SendHeaderSize: uint32(l.Sending.HeaderSize), SendHeader: uint32(l.Sending.Header),
		SendBuffers: uint32(l.Sending.Buffers), SendFragments: uint32(l.Sending.Fragments), SendProcess: uint32(l.Sending.Process),
		BufferSize: uint32(l.OutputBuffer.Size), BufferVector: uint32(l.OutputBuffer.Vector), VectorBytes: uint32(l.Vector.Bytes),
		EntryNode: uint32(l.DistEntry.Node), EntryCache: uint32(l.DistEntry.Cache), CacheIn: uint32(l.AtomCache.In),
		ProcessHtop: uint32(l.Process.HTop), ProcessStop: uint32(l.Process.Stop), ProcessHeap: uint32(l.Process.Heap), ProcessHend: uint32(l.Process.HEnd),
		ProcessWords: processWords(&l.Process),
	}
}

// attach puts the probes into the VM. They go with this process, however it
// ends. Both are put in at once, as that takes a while.
func (p *probes) attach() error {
	executable, err := link.OpenExecutable(p.executable())
	if err != nil {
		return fmt.Errorf("open the VM's executable for probes: %w", err)
	}
	if err := p.programs.Renew(); err != nil {
		return err
	}
	var links [2]link.Link
	var errs [2]error
	var both sync.WaitGroup
	both.Go(func() { links[0], errs[0] = p.probe(executable, sendFunction, p.sites.sent, p.programs.Sent) })
	both.Go(func() {
		links[1], errs[1] = p.probe(executable, receivedFunction, p.sites.received, p.programs.Received)
	})
	both.Wait()
	for i, l := range links {
		if errs[i] == nil {
			p.links = append(p.links, l)
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return errors.Join(fmt.Errorf("probe the messages between nodes: %w", err), p.detach())
	}
	return nil
}

// probe puts a probe at an offset in the VM's executable. The function is only its
// name: all symbols would be read to find it.
func (p *probes) probe(executable *link.Executable, function string, at uint64, program *ebpf.Program) (link.Link, error) {
	if p.programs.Multi {
		return executable.UprobeMulti([]string{function}, program, &link.UprobeMultiOptions{PID: uint32(p.target.PID), Addresses: []uint64{at}})
	}
	return executable.Uprobe(function, program, &link.UprobeOptions{PID: p.target.PID, Address: at})
}

// remove begins to take the probes out of the VM. They are out of its code soon;
// what takes long is that the kernel waits for those that still use them.
func (p *probes) remove() {
	if len(p.links) == 0 {
		return
	}
	p.closing = make(chan error, len(p.links))
	for _, l := range p.links {
		go func() { p.closing <- l.Close() }()
	}
}

// detach takes the probes out of the VM and returns when they are.
func (p *probes) detach() error {
	if p.closing == nil {
		p.remove()
	}
	var errs []error
	for range p.links {
		errs = append(errs, <-p.closing)
	}
	p.links, p.closing = nil, nil
	return errors.Join(errs...)
}

// begin starts the budget, and puts the probes into the VM.
func (p *probes) begin() error {
	// Connections that a list which changes does not show are new to the weights.
	vm, _ := p.target.Connections()
	p.weights.begin(vm)
	share := sampledShare
	if p.detail == Full {
		share = fullShare
	}
	p.looked = time.Now()
	p.budget = newBudget(share, p.looked)
	return p.attach()
}

// run looks at messages until a time, or until ctx is done, and handles them. quiet
// says that no connection was open before.
func (p *probes) run(ctx context.Context, until time.Time, quiet bool, handle func(*Message)) error {
	quiet = quiet && !p.weights.gap && p.pending.Len() == 0
	for ctx.Err() == nil && time.Now().Before(until) {
		if len(p.links) == 0 {
			if wait := min(time.Until(p.resume), time.Until(until)); wait > 0 {
				sleep(ctx, wait)
				continue
			}
			if err := p.attach(); err != nil {
				return err
			}
			// What was seen before the rest stands for what went by in it, and while
			// the probes were put in: that takes a while, and the next may be far off.
			if err := p.flush(ordered.All, handle); err != nil {
				return err
			}
		}
		n, err := p.read(ctx, until, p.budget.left())
		if err != nil {
			return err
		}
		quiet = quiet && n == 0
		switch {
		case !p.budget.spend(n, time.Now()):
			err = p.interrupt(handle)
		case p.pending.Bytes() >= pendingBytes:
			err = p.flush(ordered.All, handle)
		}
		if err != nil {
			return err
		}
	}
	if len(p.links) == 0 {
		return p.look(nil)
	}
	if quiet { // the counts are what they were
		return nil
	}
	// Of what came later, another CPU's buffer may have more to tell.
	return p.flush(ordered.SafeUntil(p.looked), handle)
}

// interrupt takes the probes out of the VM because there are too many messages.
func (p *probes) interrupt(handle func(*Message)) error {
	if p.detail == Full {
		p.detail, p.reduced = Sampled, true
		p.budget = newBudget(sampledShare, time.Now())
		p.budget.credit = 0
	}
	p.remove()
	for len(p.links) > 0 {
		// Until they are out, messages go on coming.
		n, err := p.read(context.Background(), time.Now().Add(5*time.Millisecond), maxUint64)
		if err == nil && p.pending.Bytes() >= pendingBytes {
			err = p.flush(ordered.All, handle)
		}
		if err != nil {
			return err
		}
		p.budget.spend(n, time.Now())
		select {
		case err = <-p.closing:
			p.links = p.links[1:]
		default:
		}
		if err != nil {
			return fmt.Errorf("take the probes out of the VM: %w", err)
		}
	}
	p.closing = nil
	n, err := p.read(context.Background(), time.Now(), maxUint64)
	p.weights.interrupted()
	p.budget.spend(n, time.Now())
	p.resume = time.Now().Add(p.budget.rest())
	return err
}

const maxUint64 = 1<<64 - 1

// pendingBytes is when records are handled before it is time.
const pendingBytes = 8 << 20

// sleep waits, or until ctx is done.
func sleep(ctx context.Context, wait time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// end takes the probes out of the VM and handles what there is.
func (p *probes) end(handle func(*Message)) error {
	err := p.detach()
	p.weights.gap = p.weights.sparse // the last word is the VM's
	_, failed := p.read(context.Background(), time.Now(), maxUint64)
	return errors.Join(err, failed, p.flush(ordered.All, handle))
}

// read reads messages until a time, until ctx is done and the reader is flushed, or
// until there are so many.
func (p *probes) read(ctx context.Context, until time.Time, most uint64) (n uint64, err error) {
	for n < most && ctx.Err() == nil && p.pending.Bytes() < pendingBytes {
		p.reader.SetDeadline(until)
		p.raw.RawSample = p.pending.Room()
		err := p.reader.ReadInto(&p.raw)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // all buffers were looked at since
			p.looked = until
			return n, nil
		case perf.IsUnknownEvent(err), errors.Is(err, perf.ErrFlushed): // ctx is done, or was
			continue
		default:
			return n, fmt.Errorf("reading messages: %w", err)
		}
		// What did not fit is counted by the kernel side.
		n++
		if p.raw.LostSamples == 0 {
			p.pending.Add(p.raw.RawSample)
		} else {
			n += p.raw.LostSamples
		}
	}
	return n, nil
}

// flush decodes and handles what was read, up to a time, with the weights that it
// has now. In the order of their times a reply comes behind the call, and the
// packets of a message one by one.
func (p *probes) flush(until uint64, handle func(*Message)) error {
	if err := p.look(p.decoder.count(p.pending.Until(until))); err != nil {
		return err
	}
	p.handleAll(until, handle)
	// After a gap the packets of a message that was cut do not come any more.
	if p.weights.gap || len(p.links) == 0 {
		for _, m := range p.decoder.cut() {
			p.handle(m, handle)
		}
	}
	if len(p.links) > 0 {
		p.weights.gap = false
	}
	return nil
}

// look counts what went by until now, and weighs what was seen of it.
func (p *probes) look(seen map[carrier]copies) error {
	traffic, err := p.programs.Traffic()
	if err != nil {
		return err
	}
	counters, err := p.programs.Counts()
	if err != nil {
		return err
	}
	// A list that changed while it was read is whole the next time.
	vm, _ := p.target.Connections()
	if counters.OutputFailed > p.counters.OutputFailed {
		p.weights.lost()
	}
	p.weights.look(vm, traffic, seen, func(atom uint64) string {
		name, _ := p.target.Atom(atom)
		return name
	})
	p.counters = counters
	return nil
}

func (p *probes) handleAll(until uint64, handle func(*Message)) {
	if p.pending.Len() == 0 {
		return
	}
	_ = p.target.RefreshCode() // without it functions that were loaded just now have no names
	p.pending.Flush(until, func(raw []byte) {
		if m := p.decoder.decode(raw); m != nil {
			p.handle(m, handle)
		}
	})
}

func (p *probes) handle(m *Message, handle func(*Message)) {
	m.Weight = p.weights.of(m.on)
	p.messages++
	handle(m)
}

// fill adds what the probes did to the session's counts.
func (p *probes) fill(stats *Stats) {
	if counters, err := p.programs.Counts(); err == nil {
		p.counters = counters
	}
	stats.Detail, stats.Reduced = p.detail, p.reduced
	stats.Messages, stats.Every = p.messages, p.weights.every()
	stats.Lost = p.counters.OutputFailed + p.decoder.lost
	stats.Uncounted = p.counters.Busy + p.counters.NotFound + p.counters.NoRoom
	stats.Malformed = p.decoder.bad
}

func (p *probes) close() error {
	errs := []error{p.detach()}
	if p.reader != nil {
		errs = append(errs, p.reader.Close())
	}
	return errors.Join(append(errs, p.programs.Close())...)
}
