package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/perf"

	"github.com/beamprof/beamprof/bpf"
)

// batch reads records until the deadline, or until woken, and handles them in the order of
// their times, over all CPUs.
func (s *Sampler) batch(deadline time.Time) error {
	s.reader.SetDeadline(deadline)
	for {
		err := s.reader.ReadInto(&s.raw)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, perf.ErrFlushed):
			s.flush()
			return nil
		case perf.IsUnknownEvent(err):
			continue
		case err != nil:
			return fmt.Errorf("reading samples: %w", err)
		}
		// What did not fit is counted by the kernel side too, once; see Source.count.
		if s.raw.LostSamples == 0 {
			s.pending.add(s.raw.RawSample)
		}
		if s.pending.full() {
			s.flush()
		}
	}
}

// flush handles what was read. Samples of processes that are not named yet come
// last: by then another sample may have told. Records of VMs that were removed
// meanwhile are dropped with them.
func (s *Sampler) flush() {
	if len(s.pending.records) == 0 {
		return
	}
	s.pending.sort()
	s.refreshCode()
	late := s.late[:0]
	for _, p := range s.pending.records {
		if !s.handleRecord(p, false) {
			late = append(late, p)
		}
	}
	for _, source := range s.sources {
		if source.codeChanged { // begin with the names of then
			source.decoder.frames.forgetJIT()
		}
	}
	for _, p := range late {
		s.handleRecord(p, true)
	}
	s.late = late
	s.pending.reset()
}

// refreshCode takes in the code that came or went during the batch: one look is
// enough, as what is known afterwards knows its time.
func (s *Sampler) refreshCode() {
	for _, p := range s.pending.records {
		raw := s.pending.bytes[p.from:p.to]
		if recordType(raw) == bpf.RecordCode {
			if source := s.sources[binary.NativeEndian.Uint32(raw[4:])]; source != nil {
				source.codeEvent(raw)
			}
		}
	}
	newest := s.pending.records[len(s.pending.records)-1].time
	for _, source := range s.sources {
		source.looked, source.codeChanged = false, len(source.codeEvents) > 0
		switch {
		case source.codeProbe == nil:
			source.refreshCode(s.flushed)
		case source.codeChanged:
			source.refreshCode(newest)
		}
	}
	s.flushed = max(s.flushed, newest)
}

// handleRecord handles one record. Unless it is the last chance, it reports false
// if the record is to be handled once more, when all others are.
func (s *Sampler) handleRecord(p pendingRecord, last bool) bool {
	raw := s.pending.bytes[p.from:p.to]
	switch recordType(raw) {
	case bpf.RecordCode: // what has an address is another function from here on
		if source := s.sources[binary.NativeEndian.Uint32(raw[4:])]; source != nil {
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
