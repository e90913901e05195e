package sampler

import (
	"slices"
	"testing"
	"time"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/native"
	"github.com/beamprof/beamprof/internal/benchload"
)

// BenchmarkDecode measures what user space does with one sample: put its stack
// together and hand it on. The records were taken of a real VM before; what
// decoding reads of the VM's memory it reads again. "first" is a decoder that
// knows nothing yet and is given as many records as a profile of 30 s at 99 Hz
// on two CPUs has, "again" one that has seen all of them before.
func BenchmarkDecode(b *testing.B) {
	for _, l := range benchload.Stacks {
		b.Run(l.Name, func(b *testing.B) {
			target := attach(b, l, 1)
			session, err := Open(target, Options{Frequency: benchmarkFrequency})
			if err != nil {
				b.Fatal(err)
			}
			defer session.Close()
			session.source.handle = func(*collector.Sample) {}
			records := takeRecords(b, session.sampler, recordsPerProfile)
			b.Run("first", func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					if i%len(records) == 0 {
						b.StopTimer()
						space, err := native.Open(target.PID)
						if err != nil {
							b.Fatal(err)
						}
						session.source.decoder = newDecoder(target, space)
						b.Cleanup(func() { space.Close() })
						b.StartTimer()
					}
					session.sampler.one(records[i%len(records)], true)
				}
			})
			b.Run("again", func(b *testing.B) {
				for _, raw := range records {
					session.sampler.one(raw, true)
				}
				b.ReportAllocs()
				i := 0
				for b.Loop() {
					session.sampler.one(records[i], true)
					i = (i + 1) % len(records)
				}
			})
		})
	}
}

// recordsPerProfile is how many samples two busy CPUs give in 30 s at 99 Hz.
const recordsPerProfile = 2 * 30 * 99

// takeRecords returns raw records of samples of the only VM.
func takeRecords(b *testing.B, s *Sampler, count int) [][]byte {
	b.Helper()
	if err := s.begin(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		s.events.close()
		s.reader.Close()
		s.running = false
	}()
	reader := s.reader
	reader.SetDeadline(time.Now().Add(sampleTimeout))
	records := make([][]byte, 0, count)
	for len(records) < count {
		if err := reader.ReadInto(&s.raw); err != nil {
			b.Fatalf("after %d samples: %v", len(records), err)
		}
		if s.raw.LostSamples == 0 && recordType(s.raw.RawSample) == bpf.RecordSample {
			records = append(records, slices.Clone(s.raw.RawSample))
		}
	}
	return records
}
