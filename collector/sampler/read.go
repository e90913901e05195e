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
	for _, source := range s.sources {
		source.looked = false
		if source.codeProbe == nil {
			source.refreshCode(s.flushed)
		}
	}
	s.pending.sort()
	s.unnamed = s.unnamed[:0]
	for _, p := range s.pending.records {
		s.flushed = max(s.flushed, p.time)
		raw := s.pending.bytes[p.from:p.to]
		switch recordType(raw) {
		case bpf.RecordCode:
			if source := s.sources[binary.NativeEndian.Uint32(raw[4:])]; source != nil {
				source.refreshCode(p.time)
			}
		case bpf.RecordSample:
			if !s.one(raw, false) {
				s.unnamed = append(s.unnamed, p)
			}
		}
	}
	for _, p := range s.unnamed {
		s.one(s.pending.bytes[p.from:p.to], true)
	}
	s.pending.reset()
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
