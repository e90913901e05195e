package distribution

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// receivedFunction gets every packet from other nodes, after TLS.
const receivedFunction = "erts_net_message"

// Sizes of the output buffer of each CPU, in bytes, and when it is read at the latest.
const (
	buffer       = 2 << 20
	watermark    = buffer / 8
	readInterval = 100 * time.Millisecond
)

// probes are the uprobes in one VM and what comes from them.
type probes struct {
	target   *beam.Target
	site     site // where messages are sent
	detail   Detail
	programs *bpf.DistributionPrograms
	links    []link.Link
	reader   *perf.Reader
	decoder  *decoder
	raw      perf.Record
	pending  pending

	every, most uint32 // one message in so many is looked into: now, and at the rarest
	messages    uint64 // looked into
	counted     uint64 // by the kernel side, at the time of the last look
	counters    bpf.DistributionCounts
	looked      time.Time
}

// newProbes loads the probes. They are hit by nothing before attach.
func newProbes(target *beam.Target, detail Detail) (*probes, error) {
	p := &probes{target: target, detail: detail, decoder: newDecoder(target), every: 1, most: 1}
	var err error
	if p.site, err = findSite(p.executable(), int32(target.Layout.Sending.Phase)); err != nil {
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
		Pid: uint32(p.target.PID), Every: p.every, SendRegister: p.site.register,
		SendControl: uint32(l.Sending.Control), SendMessage: uint32(l.Sending.Message), SendEntry: uint32(l.Sending.Entry),
		SendConnection: uint32(l.Sending.ConnectionID), SendHeaderSize: uint32(l.Sending.HeaderSize), SendHeader: uint32(l.Sending.Header),
		SendBuffers: uint32(l.Sending.Buffers), SendFragments: uint32(l.Sending.Fragments), SendProcess: uint32(l.Sending.Process),
		BufferSize: uint32(l.OutputBuffer.Size), BufferVector: uint32(l.OutputBuffer.Vector), VectorBytes: uint32(l.Vector.Bytes),
		EntryNode: uint32(l.DistEntry.Node), EntryCache: uint32(l.DistEntry.Cache), CacheIn: uint32(l.AtomCache.In),
		ProcessStop: uint32(l.Process.Stop), ProcessHeap: uint32(l.Process.Heap), ProcessHend: uint32(l.Process.HEnd),
	}
}

// attach puts the probes into the VM. They go with this process, however it ends.
func (p *probes) attach() error {
	executable, err := link.OpenExecutable(p.executable())
	if err != nil {
		return fmt.Errorf("open the VM's executable for probes: %w", err)
	}
	sent, err := executable.Uprobe(sendFunction, p.programs.Sent, &link.UprobeOptions{PID: p.target.PID, Offset: p.site.offset})
	if err != nil {
		return fmt.Errorf("probe the messages that are sent: %w", err)
	}
	p.links = append(p.links, sent)
	received, err := executable.Uprobe(receivedFunction, p.programs.Received, &link.UprobeOptions{PID: p.target.PID})
	if err != nil {
		return fmt.Errorf("probe the messages that are received: %w", err)
	}
	p.links = append(p.links, received)
	p.looked = time.Now()
	return nil
}

// detach takes the probes out of the VM.
func (p *probes) detach() {
	for _, l := range p.links {
		l.Close()
	}
	p.links = nil
}

// read handles messages until a time, or until ctx is done.
func (p *probes) read(ctx context.Context, until time.Time, handle func(*Message)) error {
	for {
		deadline := time.Now().Add(readInterval)
		if deadline.After(until) {
			deadline = until
		}
		p.reader.SetDeadline(deadline)
		err := p.reader.ReadInto(&p.raw)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.flush(handle)
			if !time.Now().Before(until) || ctx.Err() != nil {
				return nil
			}
			continue
		case perf.IsUnknownEvent(err):
			continue
		case err != nil:
			return fmt.Errorf("reading messages: %w", err)
		}
		// What did not fit is counted by the kernel side.
		if p.raw.LostSamples == 0 {
			p.pending.add(p.raw.RawSample)
		}
		if len(p.pending.bytes) >= pendingBytes {
			p.flush(handle)
		}
	}
}

// flush decodes and handles what was read.
func (p *probes) flush(handle func(*Message)) {
	if len(p.pending.records) == 0 {
		return
	}
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) == nil {
		// Without it functions that were loaded just now have no names.
		_, _ = p.target.Code.Refresh(uint64(now.Nano()))
	}
	p.pending.flush(func(raw []byte) {
		if m := p.decoder.decode(raw); m != nil {
			p.messages++
			handle(m)
		}
	})
}

// adapt chooses how many messages are looked into by how many there were.
func (p *probes) adapt() error {
	if p.detail == Full {
		return nil
	}
	traffic, err := p.programs.Traffic()
	if err != nil {
		return err
	}
	var counted uint64
	for _, t := range traffic {
		counted += t.Messages
	}
	now := time.Now()
	rate := float64(counted-min(p.counted, counted)) / max(now.Sub(p.looked).Seconds(), 1e-3)
	p.counted, p.looked = counted, now
	every := uint32(min(math.Ceil(max(rate/MaxDetails, 1)), math.MaxUint32))
	if every == p.every {
		return nil
	}
	p.every, p.most = every, max(p.most, every)
	return p.programs.Copy(every)
}

// fill adds what the probes did to the session's counts.
func (p *probes) fill(stats *Stats) {
	if counters, err := p.programs.Counts(); err == nil {
		p.counters = counters
	}
	stats.Messages, stats.Every = p.messages, p.most
	stats.Lost = p.counters.OutputFailed + p.decoder.lost
	stats.Uncounted = p.counters.Busy + p.counters.NotFound + p.counters.NoRoom
	stats.Malformed = p.decoder.bad
}

func (p *probes) close() error {
	p.detach()
	var errs []error
	if p.reader != nil {
		errs = append(errs, p.reader.Close())
	}
	return errors.Join(append(errs, p.programs.Close())...)
}
