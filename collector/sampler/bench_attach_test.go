package sampler

import (
	"context"
	"testing"
	"time"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/collector/native"
	"github.com/beamprof/beamprof/internal/benchload"
)

// BenchmarkAttach measures the time from knowing a VM's pid to its first sample,
// and the parts of it, with as much JIT code as a large application has. The VM
// is busy on all its schedulers.
func BenchmarkAttach(b *testing.B) {
	target := attach(b, benchload.Large, 2)
	_, ranges, _ := target.Code.Stats()
	var attach, open, first time.Duration
	for b.Loop() {
		start := time.Now()
		target, err := beam.Attach(target.PID)
		if err != nil {
			b.Fatal(err)
		}
		attached := time.Now()
		session, err := Open(target, Options{Frequency: 99})
		if err != nil {
			b.Fatal(err)
		}
		opened := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
		var sampled time.Time
		if err := session.Run(ctx, func(*collector.Sample) {
			if sampled.IsZero() {
				sampled = time.Now()
			}
			cancel()
		}); err != nil {
			b.Fatal(err)
		}
		cancel()
		attach += attached.Sub(start)
		open += opened.Sub(attached)
		first += sampled.Sub(opened)
		session.Close()
		target.Close()
	}
	milliseconds := func(d time.Duration, unit string) {
		b.ReportMetric(float64(d.Microseconds())/1e3/float64(b.N), unit)
	}
	b.ReportMetric(0, "ns/op") // with the end of the session
	milliseconds(attach+open+first, "ms")
	milliseconds(attach, "ms-attach")
	milliseconds(open, "ms-open")
	milliseconds(first, "ms-first-sample")
	b.ReportMetric(float64(ranges), "ranges")
}

// BenchmarkAttachParts measures the larger parts of attaching one by one.
func BenchmarkAttachParts(b *testing.B) {
	target := attach(b, benchload.Large, 2)
	descriptor, ok := target.Symbol("__jit_debug_descriptor")
	if !ok {
		b.Fatal("no list of JIT code")
	}
	part := func(name string, f func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	part("code", func() error {
		_, err := jit.Open(target.Memory, descriptor)
		return err
	})
	part("mappings", func() error {
		space, err := native.Open(target.PID)
		if err != nil {
			return err
		}
		return space.Close()
	})
	part("programs", func() error {
		programs, err := bpf.Load()
		if err != nil {
			return err
		}
		return programs.Close()
	})
	part("decoder", func() error {
		space, err := native.Open(target.PID)
		if err != nil {
			return err
		}
		newDecoder(target, space)
		return space.Close()
	})
}
