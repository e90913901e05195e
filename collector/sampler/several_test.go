package sampler_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// seen is what a window's samples were, by the name of the process.
type seen struct {
	samples int
	names   map[string]int
}

func (s *seen) add(sample *collector.Sample) {
	s.samples++
	if sample.Process != nil {
		s.names[sample.Process.Name]++
	}
}

func newSeen() *seen { return &seen{names: map[string]int{}} }

// sampled is a VM with a process of a known name that never rests, being sampled.
type sampled struct {
	vm     *testsupport.VM
	name   string
	target *beam.Target
	source *sampler.Source
	window *seen
}

func startSampled(t *testing.T, s *sampler.Sampler, name string) *sampled {
	t.Helper()
	one := &sampled{name: name, window: newSeen()}
	one.vm = testsupport.StartVM(t, testsupport.Options{
		Flags: []string{"+S", "1", "+sbwt", "none"},
		Eval:  fmt.Sprintf(`register(%s, spawn(fun() -> (fun Loop(N) -> Loop(lists:sum([N, 1])) end)(0) end)), ok`, name),
	})
	var err error
	if one.target, err = beam.Attach(one.vm.PID); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { one.target.Close() })
	if one.source, err = s.Add(one.target, one.window.add); err != nil {
		t.Fatal(err)
	}
	return one
}

// cut checks the window that ends: it follows the one before, the samples are
// all there and of this VM.
func (one *sampled) cut(t *testing.T, before *sampler.Stats) sampler.Stats {
	t.Helper()
	window, next := one.window, newSeen()
	stats, err := one.source.Cut(next.add)
	if err != nil {
		t.Fatal(err)
	}
	one.window = next
	if before != nil && !stats.Start.Equal(before.Start.Add(before.Duration)) {
		t.Errorf("%s: a gap of %v between two windows", one.name, stats.Start.Sub(before.Start.Add(before.Duration)))
	}
	if uint64(window.samples) != stats.Samples || stats.Samples == 0 {
		t.Errorf("%s: %d samples handled, %d counted", one.name, window.samples, stats.Samples)
	}
	for name := range window.names {
		if name == "spinner_one" || name == "spinner_two" || name == "spinner_late" {
			if name != one.name {
				t.Errorf("%s has samples of %s", one.name, name)
			}
		}
	}
	if window.names[one.name] < window.samples/2 {
		t.Errorf("%s: %d of %d samples are of its spinner", one.name, window.names[one.name], window.samples)
	}
	return stats
}

// TestSeveralVMs: VMs share a sampler, come and go while it runs, and their
// windows have no gaps.
func TestSeveralVMs(t *testing.T) {
	testsupport.RequireBPF(t)
	s, err := sampler.New(sampler.Options{Frequency: 499})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	one, two := startSampled(t, s, "spinner_one"), startSampled(t, s, "spinner_two")
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var failed error
	running.Go(func() { failed = s.Run(ctx) })
	defer running.Wait()
	defer cancel()

	var first, second *sampler.Stats
	var sampledSeconds, processSeconds float64
	for range 3 {
		time.Sleep(700 * time.Millisecond)
		a, b := one.cut(t, first), two.cut(t, second)
		first, second = &a, &b
		for _, stats := range []sampler.Stats{a, b} {
			sampledSeconds += stats.SampledSeconds() + float64(stats.Lost)/float64(stats.Frequency)
			processSeconds += stats.ProcessSeconds
		}
	}
	if difference := sampledSeconds/processSeconds - 1; difference < -0.15 || difference > 0.15 {
		t.Errorf("%.2f s sampled, the kernel counted %.2f s", sampledSeconds, processSeconds)
	}

	late := startSampled(t, s, "spinner_late")
	again, err := beam.Attach(one.vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := one.source.Renew(again); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add(again, nil); err == nil {
		t.Error("a VM was added twice")
	}
	two.vm.Stop(t)
	for range 100 {
		if _, err = two.source.Cut(two.window.add); err != nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if !errors.Is(err, sampler.ErrTargetExited) {
		t.Errorf("a VM that ended: %v", err)
	}
	if _, err := two.source.Remove(); err != nil {
		t.Error(err)
	}
	one.cut(t, first)
	late.cut(t, nil)
	time.Sleep(time.Second)
	cancel()
	running.Wait()
	if failed != nil {
		t.Error(failed)
	}
	last := late.cut(t, nil) // also when nothing is sampled any more
	if last.Lost != 0 {
		t.Errorf("%d samples are lost", last.Lost)
	}
	if _, err := late.source.Remove(); err != nil {
		t.Error(err)
	}
}
