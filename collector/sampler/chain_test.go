package sampler_test

import (
	"context"
	_ "embed"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/chain.erl
var chainSource string

// captured is a sample that outlives the callback.
type captured struct {
	collector.Sample
	stack []*collector.Frame
}

// erlang returns the names of the Erlang frames, leaf first.
func (c captured) erlang() (names []string) {
	for _, f := range c.stack {
		if f.Kind == collector.FrameErlang {
			names = append(names, f.Function)
		}
	}
	return names
}

func (c captured) names() (names []string) {
	for _, f := range c.stack {
		names = append(names, f.Function)
	}
	return names
}

// profile samples a VM.
func profile(t testing.TB, vm *testsupport.VM, frequency int, duration time.Duration) ([]captured, sampler.Stats) {
	t.Helper()
	target, err := beam.Attach(vm.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	session, err := sampler.Open(target, sampler.Options{Frequency: frequency})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	var samples []captured
	if err := session.Run(ctx, func(s *collector.Sample) {
		kept := captured{*s, slices.Clone(s.Stack)}
		kept.Callers = slices.Clone(s.Callers)
		for i := range kept.Callers {
			kept.Callers[i].Stack = slices.Clone(kept.Callers[i].Stack)
		}
		samples = append(samples, kept)
	}); err != nil {
		t.Fatal(err)
	}
	return samples, session.Stats()
}

// TestKnownChains samples processes whose stacks are known by construction.
func TestKnownChains(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, kind := range []string{"jit", "bif", "nif", "gc", "ets", "match", "syscall", "copy", "dirty"} {
		t.Run(kind, func(t *testing.T) { testChain(t, kind) })
		t.Run(kind+" with frame pointers", func(t *testing.T) { testChain(t, kind, "+JPperf", "true") })
	}
}

func testChain(t *testing.T, kind string, flags ...string) {
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   append([]string{"+S", "1"}, flags...),
		Modules: map[string]string{"chain": chainSource},
		Eval:    "P = chain:start(" + kind + ")",
	})
	pid := vm.Eval(t, "P")
	samples, stats := profile(t, vm, 997, time.Second)
	checkChain(t, samples, pid)
	t.Logf("%d samples, %d lost, %d partial, %d truncated; sampled %.2f s of %.2f s",
		stats.Samples, stats.Lost, stats.Partial, stats.Truncated, stats.SampledSeconds(), stats.ProcessSeconds)
}

// checkChain checks that samples of a process hold exactly its chain of callers;
// and that few are of work of which it is not known for which process it is.
func checkChain(t *testing.T, samples []captured, pid string) {
	t.Helper()
	want := []string{"chain:c/2", "chain:b/2", "chain:a/2", "chain:root/1"}
	running, right := 0, 0
	wrong := map[string]int{}
	for _, s := range samples {
		if nobodys(s) {
			wrong["of no process: "+strings.Join(s.names(), " < ")]++
			running++
			continue
		}
		if s.Process == nil || s.Process.PID != pid {
			continue
		}
		running++
		names := s.erlang()
		at := slices.Index(names, want[0])
		if at < 0 {
			at = slices.Index(names, want[1])
		}
		if at >= 0 && (slices.Equal(names[at:], want)) && !s.Partial {
			right++
		} else {
			wrong[strings.Join(s.names(), " < ")]++
		}
	}
	if running < 100 {
		t.Fatalf("only %d of %d samples are of the process %s", running, len(samples), pid)
	}
	if share := float64(right) / float64(running); share < 0.99 {
		t.Errorf("%.2f%% of %d samples hold the whole chain, want 99%%", 100*share, running)
	}
	t.Logf("%d of %d samples hold exactly the chain", right, running)
	for stack, n := range wrong {
		t.Logf("wrong %d times: %s", n, stack)
	}
}

// nobodys tells whether a scheduler does a process's work and the sample does not tell whose.
func nobodys(s captured) bool {
	switch s.State {
	case collector.StateEmulator, collector.StateBIF, collector.StateNIF, collector.StateGC:
		return s.Thread.Kind == collector.ThreadScheduler && (s.Process == nil || s.Process.Kind == "unknown")
	}
	return false
}

// TestDeepRecursion samples a stack of 10 000 frames: the root is never lost.
func TestDeepRecursion(t *testing.T) {
	testsupport.RequireBPF(t)
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "1"},
		Modules: map[string]string{"chain": chainSource},
		Eval:    "P = chain:deep(10000)",
	})
	pid := vm.Eval(t, "P")
	samples, _ := profile(t, vm, 499, time.Second)
	running := 0
	for _, s := range samples {
		if s.Process == nil || s.Process.PID != pid {
			continue
		}
		running++
		names := s.names()
		tail := names[max(0, len(names)-2):]
		if !slices.Equal(tail, []string{"[recursion folded: chain:down/1]", "chain:bottom/1"}) {
			t.Fatalf("root lost: %q", names)
		}
		if len(names) > 40 {
			t.Fatalf("recursion not folded: %d frames: %q", len(names), names)
		}
	}
	if running < 50 {
		t.Fatalf("only %d samples of the process", running)
	}
}
