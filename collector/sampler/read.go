package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/ordered"
)

// batch reads records until the deadline, or until woken, and handles those that
// are older than the last look at the buffers, in the order of their times, over
// all CPUs: of what comes later, another CPU's buffer may have more to tell.
func (s *Sampler) batch(deadline time.Time) error {
	s.reader.SetDeadline(deadline)
	for {
		s.raw.RawSample = s.pending.Room()
		err := s.reader.ReadInto(&s.raw)
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // all buffers were looked at since
			s.flush(ordered.SafeUntil(deadline))
			return nil
		case errors.Is(err, perf.ErrFlushed):
			deadline = time.Now()
			s.reader.SetDeadline(deadline)
			continue
		case perf.IsUnknownEvent(err):
			continue
		default:
			return fmt.Errorf("reading samples: %w", err)
		}
		// What did not fit is counted by the kernel side too, once; see Source.count.
		if s.raw.LostSamples == 0 {
			s.pending.Add(s.raw.RawSample)
		}
		if s.pending.Bytes() >= pendingBytes {
			if now := time.Now(); deadline.After(now) {
				deadline = now
				s.reader.SetDeadline(deadline)
			}
		}
		if s.pending.Bytes() >= maxPending {
			s.flush(ordered.All)
		}
	}
}

// What is held is handled soon if it is more than pendingBytes, and at once,
// whatever the order, if it is more than maxPending.
const (
	pendingBytes = 4 << 20
	maxPending   = 64 << 20
)

// rest reads what is there now, and handles all of it.
func (s *Sampler) rest() error {
	err := s.batch(time.Now())
	s.flush(ordered.All)
	return err
}

// flush handles the records up to a time, and keeps the others. Samples of
// processes that are not named yet come last: by then another sample may have
// told. Records of VMs that were removed meanwhile are dropped with them.
func (s *Sampler) flush(until uint64) {
	s.readCode()
	records := s.pending.Until(until)
	if len(records) == 0 {
		return
	}
	s.refreshCode(records[len(records)-1].Time)
	late := s.late[:0]
	for _, r := range records {
		if !s.handleRecord(r.Bytes, false) {
			late = append(late, r)
		}
	}
	for _, source := range s.sources {
		if source.codeChanged { // begin with the names of then
			source.decoder.frames.forgetJIT()
		}
	}
	for _, r := range late {
		s.handleRecord(r.Bytes, true)
	}
	s.late = late
	s.pending.Drop(len(records))
}

// readCode reads what the kernel side told of JIT code by now, for a look at the
// code, and for the place of each change among the samples.
func (s *Sampler) readCode() {
	s.code.SetDeadline(time.Now())
	for {
		s.raw.RawSample = s.pending.Room()
		if err := s.code.ReadInto(&s.raw); err != nil {
			if perf.IsUnknownEvent(err) {
				continue
			}
			return // no more
		}
		if s.raw.LostSamples > 0 { // it is not known whose they were
			for _, source := range s.sources {
				source.stats.CodeErrors++
			}
			continue
		}
		if !s.pending.Add(s.raw.RawSample) {
			continue
		}
		if source := s.codeSource(s.raw.RawSample); source != nil {
			source.codeEvent(s.raw.RawSample)
		}
	}
}

// codeSource returns the VM whose code a record is about, or nil.
func (s *Sampler) codeSource(raw []byte) *Source {
	return s.sources[binary.NativeEndian.Uint32(raw[4:])]
}

// refreshCode takes in the code that came or went: one look is enough, as what is
// known afterwards knows its time. It comes before the records up to the time
// newest are handled.
func (s *Sampler) refreshCode(newest uint64) {
	now := ordered.Now()
	for _, source := range s.sources {
		source.looked, source.codeChanged = false, false
		switch {
		case source.codeProbe == nil:
			source.refreshCode(s.flushed)
		case len(source.codeEvents) > 0:
			source.refreshCode(now)
		}
	}
	s.flushed = max(s.flushed, newest)
}

// handleRecord handles one record. Unless it is the last chance, it reports false
// if the record is to be handled once more, when all others are.
func (s *Sampler) handleRecord(raw []byte, last bool) bool {
	switch recordType(raw) {
	case bpf.RecordCode: // what has an address is another function from here on
		if source := s.codeSource(raw); source != nil {
			source.codeChanged = true
			source.decoder.frames.forgetJIT()
		}
		return last
	case bpf.RecordSample:
		return s.one(raw, last)
	}
	return true
}

// one handles one sample. Unless it is the last chance, it reports false if the
// sample is better handled later.
func (s *Sampler) one(raw []byte, last bool) bool {
	err := s.record.parse(raw)
	source := s.sources[s.record.Pid]
	switch {
	case source == nil:
	case err != nil:
		source.malformed()
	default:
		return source.sample(&s.record, last)
	}
	return true
}
