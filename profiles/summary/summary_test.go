package summary

import (
	"bytes"
	"flag"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/sampletest"
)

// whole is all of a sample, not attributed.
var whole = attribution.Part{Samples: 1, Nanoseconds: 1_000_000_000 / 99}

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

var info = Info{
	Target: Target{PID: 4711, Node: "broker@10.0.0.1", OTPRelease: "25", ERTS: "13.1.5", Flavor: "jit", Schedulers: 2, Kernel: "5.4.0-216-generic"},
	Window: Window{Start: sampletest.Start, Duration: 30.0123},
	CPU:    CPU{ProcessSeconds: 10.07, Lost: 0, Truncated: 10, Partial: 2, UnsymbolizedFrames: 388},
}

// brokerRules are rules for the broker of sampletest that leave something open.
const brokerRules = `
name: broker
workloads: {exchange: "", clients: "", vm: ""}
rules:
  - {when: {state: [busy_wait, check_io, scheduling, aux]}, then: vm}
  - {when: {state: native}, then: apportion, over: {function: "eleveldb:*"}}
  - {when: {process: "broker_exchange_fsm:*"}, then: exchange}
  - {when: {process: ["broker_session:*", broker_batcher]}, then: clients}
  - {when: {process: [broker_db_metaN, broker_store]}, then: caller}
`

func broker(info Info) *Summary {
	rules, err := attribution.Parse("broker.yaml", []byte(brokerRules))
	if err != nil {
		panic(err)
	}
	b := NewBuilder(Options{Frequency: 99})
	a := attribution.New(rules, 1_000_000_000/99, b.Add)
	for _, s := range sampletest.Broker() {
		a.Add(s)
	}
	a.Close()
	info.Rules = rules.Name
	return b.Summary(info)
}

func TestJSONGolden(t *testing.T) {
	var b bytes.Buffer
	if err := broker(info).Write(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "broker.json", b.String())
	if !cmp.Equal(broker(info), broker(info)) {
		t.Error("equal samples give different summaries")
	}
}

func TestReadGivesBackWhatWasWritten(t *testing.T) {
	want := broker(info)
	var b bytes.Buffer
	if err := want.Write(&b); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestSharesAddUp: states and threads cover every sample, and so do processes
// with the time that had none.
func TestSharesAddUp(t *testing.T) {
	addUp(t, broker(info))
}

// TestWeights: each kind of thread gets its weight, and all still adds up.
func TestWeights(t *testing.T) {
	plain, weighed := broker(info), info
	weighed.Weights = map[string]float64{"scheduler": 1.25, "Eleveldb": 0.5}
	s := broker(weighed)
	addUp(t, s)
	var want float64
	for _, p := range plain.Threads {
		weight, ok := weighed.Weights[p.Name]
		if !ok {
			weight = 1
		}
		want += weight * p.Seconds
		for _, q := range s.Threads {
			if q.Name == p.Name && math.Abs(q.Seconds-weight*p.Seconds) > 1e-5 {
				t.Errorf("%s: %v s of %v with the weight %v", q.Name, q.Seconds, p.Seconds, weight)
			}
		}
	}
	if math.Abs(s.CPU.Seconds-want) > 1e-4 || s.CPU.SampledSeconds != plain.CPU.SampledSeconds || s.CPU.Samples != plain.CPU.Samples {
		t.Errorf("%+v; want %v s of %+v", s.CPU, want, plain.CPU)
	}
}

func addUp(t *testing.T, s *Summary) {
	t.Helper()
	sum := func(parts []Part) (seconds float64) {
		for _, p := range parts {
			seconds += p.Seconds
		}
		return round(seconds)
	}
	var processes, kinds float64
	for _, p := range s.Processes {
		processes += p.Seconds
	}
	for _, k := range s.ProcessKinds {
		kinds += k.Seconds
	}
	want := s.CPU.Seconds
	for what, got := range map[string]float64{
		"states": sum(s.States), "threads": sum(s.Threads),
		"processes": round(processes + s.CPU.WithoutProcessSeconds), "kinds": round(kinds + s.CPU.WithoutProcessSeconds),
	} {
		if d := got - want; d < -1e-4 || d > 1e-4 {
			t.Errorf("%s add up to %v s of %v", what, got, want)
		}
	}
}

func TestErlangLeaf(t *testing.T) {
	erlang := func(name string) *collector.Frame {
		return &collector.Frame{Kind: collector.FrameErlang, Function: name}
	}
	c := &collector.Frame{Kind: collector.FrameNative, Function: "db_get_hash", Mapping: &collector.Mapping{File: "/x/beam.smp"}}
	kernel := &collector.Frame{Kind: collector.FrameKernel, Function: "futex"}
	marker := &collector.Frame{Kind: collector.FrameMarker, Function: "[folded]"}
	shared := erlang("global::call_light_bif_shared")
	for _, test := range []struct {
		name           string
		stack          []*collector.Frame
		erlang, native string
	}{
		{"Erlang leaf", []*collector.Frame{erlang("a:b/1"), erlang("a:root/0")}, "a:b/1", ""},
		{"BIF", []*collector.Frame{c, shared, erlang("a:b/1")}, "a:b/1", "db_get_hash"},
		{"kernel below C", []*collector.Frame{kernel, c, erlang("a:b/1")}, "a:b/1", "futex"},
		{"fragment alone", []*collector.Frame{shared}, "", ""},
		{"marker first", []*collector.Frame{marker, c, erlang("a:b/1")}, "a:b/1", "db_get_hash"},
		{"native thread", []*collector.Frame{c}, "", "db_get_hash"},
		{"nothing", nil, "", ""},
	} {
		b := NewBuilder(Options{Frequency: 99})
		b.Add(&collector.Sample{Stack: test.stack}, whole)
		s := b.Summary(Info{})
		first := func(functions []Function) string {
			if len(functions) == 0 {
				return ""
			}
			return functions[0].Name
		}
		if got := first(s.ErlangFunctions); got != test.erlang {
			t.Errorf("%s: Erlang function %q, want %q", test.name, got, test.erlang)
		}
		if got := first(s.NativeFunctions); got != test.native {
			t.Errorf("%s: native function %q, want %q", test.name, got, test.native)
		}
	}
}

// TestNamesAreReadLate: kernel frames get their names after the samples were added.
func TestNamesAreReadLate(t *testing.T) {
	frame := &collector.Frame{Kind: collector.FrameKernel, Address: 1}
	b := NewBuilder(Options{Frequency: 99})
	b.Add(&collector.Sample{Stack: []*collector.Frame{frame}}, whole)
	frame.Function = "tcp_sendmsg"
	if got := b.Summary(Info{}).NativeFunctions[0]; got.Name != "tcp_sendmsg" || got.Object != "[kernel]" {
		t.Errorf("got %+v", got)
	}
}

// TestRenamedProcess: a process that registers a name meanwhile is one process.
func TestRenamedProcess(t *testing.T) {
	b := NewBuilder(Options{Frequency: 99})
	for _, p := range []*collector.Process{{PID: "<0.9.0>", Name: "a", Kind: "a"}, {PID: "<0.9.0>", Name: "a", Kind: "a"}, {PID: "<0.8.0>", Name: "a", Kind: "a"}} {
		b.Add(&collector.Sample{Process: p}, whole)
	}
	s := b.Summary(Info{})
	if len(s.Processes) != 2 || len(s.ProcessKinds) != 1 || s.ProcessKinds[0].Processes != 2 || s.ProcessKinds[0].Busiest != "<0.9.0>" {
		t.Errorf("got %+v, %+v", s.Processes, s.ProcessKinds)
	}
}

func TestTooManyProcesses(t *testing.T) {
	b := NewBuilder(Options{Frequency: 99})
	for range maxKeys + 50 {
		b.Add(&collector.Sample{Process: &collector.Process{Name: "p", Kind: "p"}}, whole)
	}
	s := b.Summary(Info{})
	if len(s.Warnings) != 1 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	if k := s.ProcessKinds[0]; k.Kind != "p" || k.Share != 1 {
		t.Errorf("got %+v", k)
	}
}

func TestAgreement(t *testing.T) {
	for _, c := range []struct {
		name               string
		sampled, accounted float64
		lost               uint64
		ended              string
		ok, known          bool
		reason             string
	}{
		{"equal", 50, 50, 0, "", true, true, ""},
		{"3 % less", 48.51, 50, 0, "", true, true, ""},
		{"3 % more", 51.49, 50, 0, "", true, true, ""},
		{"lost", 40, 50, 900, "", false, true, "900 samples were lost"},
		{"stalled", 40, 50, 10, "", false, true, "threads that run for microseconds"},
		{"more", 60, 50, 0, "", false, true, "the kernel's account fell short"},
		{"few", 0.1, 0.2, 0, "", false, true, "10 samples are too few to compare"},
		{"exited", 60, 50, 0, EndedTargetExited, false, true, "the VM ended"},
		{"unknown", 50, 0, 0, "", false, false, "could not be read"},
		{"idle", 0, 0, 0, "", true, false, ""},
		{"hardly anything", 0.02, 0, 0, "", true, false, ""},
	} {
		s := &Summary{Window: Window{Frequency: 100, Ended: c.ended}, CPU: CPU{SampledSeconds: c.sampled, ProcessSeconds: c.accounted, Samples: uint64(c.sampled * 100), Lost: c.lost}}
		a := s.Agreement()
		if a.OK != c.ok || a.Known != c.known || !bytes.Contains([]byte(a.Reason), []byte(c.reason)) || (a.Reason == "") != c.ok {
			t.Errorf("%s: got %+v", c.name, a)
		}
	}
}

func BenchmarkAdd(b *testing.B) {
	samples := sampletest.Broker()
	builder := NewBuilder(Options{Frequency: 99})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		builder.Add(samples[i%len(samples)], whole)
		i++
	}
}
