package sampler

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/benchload"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// targetSlot is for how long the clocks tick, or rest.
const targetSlot = 50 * time.Millisecond

// BenchmarkTarget measures what the ticks at 99 Hz take from the target: its work
// per second while they come, with that right before or after while they do not,
// in random order. Shared machines get faster and slower by more than what is
// looked for, but less so within a tenth of a second, and there are many pairs. What the
// collector does with the samples comes a second later and falls on both alike:
// that is BenchmarkRecord's, of cmd/beamprof.
func BenchmarkTarget(b *testing.B) {
	testsupport.RequireBPF(b)
	vm := benchload.Large.Start(b, 2)
	target, err := beam.Attach(vm.PID)
	if err != nil {
		b.Fatal(err)
	}
	defer target.Close()
	session, err := Open(target, Options{Frequency: 99})
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ticking := make(chan struct{}, 1)
	ended := make(chan error, 1)
	samples := 0
	go func() {
		ended <- session.Run(ctx, func(*collector.Sample) {
			if samples++; samples == 1 {
				ticking <- struct{}{}
			}
		})
	}()
	select {
	case <-ticking:
	case err := <-ended:
		b.Fatal(err)
	}
	var clocks []int
	for _, fd := range session.sampler.events.fds {
		clocks = append(clocks, fd)
	}
	rate := func(tick bool) float64 {
		request := uint(unix.PERF_EVENT_IOC_DISABLE)
		if tick {
			request = unix.PERF_EVENT_IOC_ENABLE
		}
		for _, fd := range clocks {
			if err := unix.IoctlSetInt(fd, request, 0); err != nil {
				b.Fatal(err)
			}
		}
		before := benchload.Counted(b, vm)
		time.Sleep(targetSlot)
		return benchload.Counted(b, vm).Since(before)
	}
	var ratios []float64
	for b.Loop() {
		if rand.IntN(2) == 0 {
			with := rate(true)
			ratios = append(ratios, with/rate(false))
		} else {
			without := rate(false)
			ratios = append(ratios, rate(true)/without)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	center, uncertain := meanLog(ratios)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(math.Exp(center), "with/without")
	b.ReportMetric(1.96*uncertain, "±95%")
	b.ReportMetric(float64(samples)/float64(len(ratios)), "samples/pair")
}

// meanLog returns the mean of the logarithms and its standard error.
func meanLog(ratios []float64) (mean, uncertain float64) {
	n := float64(len(ratios))
	for _, r := range ratios {
		mean += math.Log(r) / n
	}
	for _, r := range ratios {
		uncertain += (math.Log(r) - mean) * (math.Log(r) - mean)
	}
	return mean, math.Sqrt(uncertain / max(n-1, 1) / n)
}
