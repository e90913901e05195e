package sampler_test

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/internal/testsupport"
)

//go:embed testdata/census.erl
var censusSource string

// citizen is what the VM says of a process.
type citizen struct {
	registered, initial string
	function            string // what a process was spawned with, if it was a fun
}

// name returns the value of the label `process`.
func (c citizen) name() string {
	switch {
	case c.registered != "":
		return c.registered
	case c.function != "":
		return c.function
	}
	return c.initial
}

// TestIdentity samples more than 1000 processes of all kinds while they work, one
// after the other, many of which are gone when their samples are looked at: each
// sample names its process as the VM itself does.
func TestIdentity(t *testing.T) {
	testsupport.RequireBPF(t)
	const processes, enough = 1600, 1000 // a machine without time for us loses samples
	vm := testsupport.StartVM(t, testsupport.Options{
		Flags:   []string{"+S", "2", "+sbwt", "none"},
		Modules: map[string]string{"census": censusSource},
	})
	samples, stats := profileUntil(t, vm, 3999, 60*time.Second, func() {
		vm.Eval(t, fmt.Sprintf("census:start(%d)", processes))
	}, func() bool { return vm.Eval(t, "census:done()") == "true" })
	citizens := map[string]citizen{}
	for line := range strings.Lines(string(vm.EvalBytes(t, "census:all()"))) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(fields) != 4 {
			t.Fatalf("line %q", line)
		}
		citizens[fields[0]] = citizen{fields[1], fields[2], fields[3]}
	}
	if len(citizens) < processes {
		t.Fatalf("only %d processes told of themselves", len(citizens))
	}
	sampled, wrong := map[string]int{}, map[string]int{}
	for _, s := range samples {
		if s.Process == nil || !working(s) {
			continue
		}
		want, ok := citizens[s.Process.PID]
		if !ok {
			t.Fatalf("a process that works is said to have the pid %s, which none had: %s", s.Process.PID, strings.Join(s.names(), " < "))
		}
		sampled[s.Process.PID]++
		p := s.Process
		if p.RegisteredName != want.registered || p.InitialCall != want.initial || p.Name != want.name() || p.Kind != beam.Kind(want.name()) && want.registered != "" {
			wrong[fmt.Sprintf("%+v, the VM says %+v", *p, want)]++
		}
	}
	t.Logf("%d samples (%d lost) of %d processes out of %d", len(samples), stats.Lost, len(sampled), len(citizens))
	if len(sampled) < enough {
		t.Errorf("only %d of %d processes were sampled", len(sampled), len(citizens))
	}
	if len(wrong) > 0 {
		t.Errorf("%d processes are not named as the VM names them", len(wrong))
	}
	logMost(t, wrong, 20)
}

// working tells whether a sample is of a process that has begun its work.
func working(s captured) bool {
	for _, name := range s.erlang() {
		if name == "census:worked/3" {
			return true
		}
	}
	return false
}

// profileUntil samples a VM from before start until done, or until a limit.
func profileUntil(t *testing.T, vm *testsupport.VM, frequency int, limit time.Duration, start func(), done func() bool) ([]captured, sampler.Stats) {
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
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var samples []captured
	ended := make(chan error, 1)
	go func() {
		ended <- session.Run(ctx, func(s *collector.Sample) {
			samples = append(samples, captured{*s, slices.Clone(s.Stack)})
		})
	}()
	time.Sleep(100 * time.Millisecond) // it samples by now; if not, what follows is not sampled from the start
	start()
	for !done() && ctx.Err() == nil {
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	return samples, session.Stats()
}
