package pprof

import (
	"bytes"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/sampletest"
)

// whole is all of a sample, not attributed.
var whole = attribution.Part{Samples: 1, Nanoseconds: 1_000_000_000 / 99}

var update = flag.Bool("update", false, "write the golden files anew")

var info = Info{
	Version: "v0.1.0", PID: 4711, Node: "broker@10.0.0.1", Release: "25", ERTS: "13.1.5", Flavor: "jit", Kernel: "5.4.0-216-generic",
	Executable: sampletest.Executable, Start: sampletest.Start, Duration: 30 * time.Second,
	Lost: 3, Truncated: 10, Partial: 2, UnsymbolizedFrames: 388,
}

func build(t testing.TB, options Options, samples []*collector.Sample) *profile.Profile {
	t.Helper()
	b := NewBuilder(options)
	for _, s := range samples {
		b.Add(s, whole)
	}
	p, err := b.Profile(info)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func encode(t testing.TB, p *profile.Profile) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestProfileGolden(t *testing.T) {
	p := build(t, Options{Frequency: 99}, sampletest.Broker())
	decoded, err := profile.ParseData(encode(t, p))
	if err != nil {
		t.Fatal(err)
	}
	golden := filepath.Join("testdata", "broker.txt")
	got := decoded.String()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("profile differs from %s (-want +got):\n%s", golden, diff)
	}
}

// TestWeights: the CPU time of each kind of thread is multiplied, its samples are not.
func TestWeights(t *testing.T) {
	plain := build(t, Options{Frequency: 99}, sampletest.Broker())
	b := NewBuilder(Options{Frequency: 99})
	for _, s := range sampletest.Broker() {
		b.Add(s, whole)
	}
	weighed := info
	weighed.Weights = map[string]float64{"scheduler": 1.25, "Eleveldb": 0.5}
	p, err := b.Profile(weighed)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, s := range p.Sample {
		thread := s.Label["thread"][0]
		weight, ok := weighed.Weights[thread]
		if !ok {
			weight = 1
		}
		seen[thread] = true
		was := plain.Sample[i].Value
		if s.Value[0] != was[0] || math.Abs(float64(s.Value[1])-weight*float64(was[1])) > 1 {
			t.Errorf("%s: %v, without weights %v", thread, s.Value, was)
		}
	}
	if len(seen) < 3 {
		t.Errorf("there are samples of %v only", seen)
	}
}

func TestEqualInputGivesEqualOutput(t *testing.T) {
	first := encode(t, build(t, Options{Frequency: 99}, sampletest.Broker()))
	second := encode(t, build(t, Options{Frequency: 99}, sampletest.Broker()))
	if !bytes.Equal(first, second) {
		t.Error("same samples, other bytes")
	}
}

func decode(t testing.TB, data []byte) *profile.Profile {
	t.Helper()
	p, err := profile.ParseData(data)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestValuesAddUp(t *testing.T) {
	samples := sampletest.Broker()
	p := build(t, Options{Frequency: 99}, samples)
	var count, cpu int64
	for _, s := range p.Sample {
		count += s.Value[0]
		cpu += s.Value[1]
	}
	if count != int64(len(samples)) || cpu != count*10_101_010 || p.Period != 10_101_010 {
		t.Errorf("%d samples of %d ns are %d samples, %d ns", len(samples), p.Period, count, cpu)
	}
}

func TestEmptyProfileIsValid(t *testing.T) {
	p := build(t, Options{Frequency: 99}, nil)
	if err := p.CheckValid(); err != nil {
		t.Error(err)
	}
	decode(t, encode(t, p))
}

func TestMappings(t *testing.T) {
	p := build(t, Options{Frequency: 99}, sampletest.Broker())
	if file := p.Mapping[0].File; file != sampletest.Executable {
		t.Errorf("the first mapping is %s", file)
	}
	files := map[string]string{}
	for _, m := range p.Mapping {
		files[m.File] = m.BuildID
		if !m.HasFunctions || !m.HasFilenames || !m.HasLineNumbers || !m.HasInlineFrames {
			t.Errorf("pprof would look for the symbols of %s", m.File)
		}
	}
	want := map[string]string{
		sampletest.Executable: "8f1c25c9d0b1e3a7", "/usr/lib/x86_64-linux-gnu/libc.so.6": "115585c6aa7bd10c",
		"/opt/broker/lib/eleveldb/priv/eleveldb.so": "", "[beam jit]": "", "[kernel.kallsyms]": "",
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
	for _, l := range p.Location {
		marker := strings.Contains(l.Line[0].Function.Name, "frames of recursion")
		if marker != (l.Mapping == nil) || marker != (l.Address == 0) {
			t.Errorf("%s: mapping %v, address %#x", l.Line[0].Function.Name, l.Mapping, l.Address)
		}
	}
}

func TestFramesWithoutMappingAreKept(t *testing.T) {
	p := build(t, Options{Frequency: 1}, []*collector.Sample{{Stack: []*collector.Frame{
		{Kind: collector.FrameKernel, Address: 1, Function: "[kernel]"},
		{Kind: collector.FrameNative, Address: 2},
		{Kind: collector.FrameErlang, Address: 3, Function: "a:b/0"},
	}}})
	var got []string
	for _, l := range p.Sample[0].Location {
		got = append(got, l.Mapping.File+" "+l.Line[0].Function.Name)
	}
	want := []string{"[kernel.kallsyms] [kernel]", "[unknown] [no name] 0x2", "[beam jit] a:b/0"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestHostileNames(t *testing.T) {
	process := &collector.Process{PID: "<0.1.0>", Name: "a\xff\x1b[2Jb", Kind: "k\n"}
	p := build(t, Options{Frequency: 99}, []*collector.Sample{{
		Thread: &collector.Thread{Kind: collector.ThreadNative, Name: "x\x00y"}, Process: process, Request: "\u202e",
		Stack: []*collector.Frame{{Kind: collector.FrameErlang, Function: "m:\xc3\x28/1", File: "\x07.erl", Line: -4}},
	}})
	p = decode(t, encode(t, p))
	text := p.String()
	if strings.ContainsAny(text, "\x1b\x07\x00\u202e") || !strings.Contains(text, "m:\uFFFD(/1") {
		t.Errorf("not cleaned: %q", text)
	}
}

func TestSchedulerLabel(t *testing.T) {
	for _, c := range []struct {
		thread collector.Thread
		want   string
	}{
		{collector.Thread{Kind: collector.ThreadScheduler, Number: 12}, "map[scheduler:[12]]"},
		{collector.Thread{Kind: collector.ThreadDirtyCPU, Number: 1}, "map[scheduler:[1]]"},
		{collector.Thread{Kind: collector.ThreadDirtyIO, Number: 1}, "map[scheduler:[1]]"},
		{collector.Thread{Kind: collector.ThreadScheduler}, "map[]"},
		{collector.Thread{Kind: collector.ThreadAux, Number: 1}, "map[]"},
		{collector.Thread{Kind: collector.ThreadNative, Name: "1_scheduler"}, "map[]"},
	} {
		p := build(t, Options{Frequency: 99}, []*collector.Sample{{Thread: &c.thread}})
		if got := fmt.Sprint(p.Sample[0].NumLabel); got != c.want {
			t.Errorf("%+v: %s, want %s", c.thread, got, c.want)
		}
	}
}

// TestTooManyStacks: time and labels stay, stacks are replaced and counted.
func TestTooManyStacks(t *testing.T) {
	b := NewBuilder(Options{Frequency: 100, MaxStacks: 10})
	thread := &collector.Thread{Kind: collector.ThreadScheduler, Number: 1}
	for round := range 3 {
		for i := range 25 {
			process := &collector.Process{PID: fmt.Sprintf("<0.%d.%d>", i, round), Name: "p", Kind: "p"}
			if i < 10 {
				process = nil
			}
			b.Add(&collector.Sample{Thread: thread, Process: process, State: collector.StateEmulator, Stack: []*collector.Frame{frame(i), frame(99)}}, whole)
		}
	}
	if b.Samples() != 75 || b.WithoutStack() != 45 {
		t.Errorf("%d samples, %d without a stack", b.Samples(), b.WithoutStack())
	}
	p, err := b.Profile(info)
	if err != nil {
		t.Fatal(err)
	}
	var total, marked int64
	for _, s := range p.Sample {
		total += s.Value[0]
		if s.Location[0].Mapping == nil {
			marked += s.Value[0]
			if got := s.Label["thread"]; len(got) != 1 || got[0] != "scheduler" {
				t.Errorf("labels are lost: %v", s.Label)
			}
		}
	}
	if total != 75 || marked != 45 || len(p.Sample) != 11 {
		t.Errorf("%d samples in %d entries, %d marked", total, len(p.Sample), marked)
	}
	if want := "samples without a stack: 45 (more than 10 different stacks)"; !strings.Contains(strings.Join(p.Comments, "\n"), want) {
		t.Errorf("comments say nothing: %q", p.Comments)
	}
}

var frames []*collector.Frame

func frame(i int) *collector.Frame {
	for len(frames) <= i {
		n := len(frames)
		frames = append(frames, &collector.Frame{Kind: collector.FrameErlang, Address: uint64(n + 1), Function: fmt.Sprintf("m:f%d/0", n)})
	}
	return frames[i]
}

func TestHashCollisions(t *testing.T) {
	table := newStackTable()
	a, b := table.intern([]uint32{1}), table.intern([]uint32{2})
	// Let both stand under one hash, as if theirs were equal.
	table.stacks[b].next = int(a)
	table.first = map[uint64]uint32{hash([]uint32{1}): b, hash([]uint32{2}): b}
	for id, ids := range map[uint32][]uint32{a: {1}, b: {2}} {
		if got, ok := table.find(ids); !ok || got != id {
			t.Errorf("find(%v) = %d, %v", ids, got, ok)
		}
	}
}

// BenchmarkAdd adds stacks of 40 frames, as an Erlang server under load has:
// common roots, many leaves. distinct says how many different stacks there are.
func BenchmarkAdd(b *testing.B) {
	for _, distinct := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("distinct=%d", distinct), func(b *testing.B) {
			samples := randomSamples(distinct)
			builder := NewBuilder(Options{Frequency: 4999})
			for i := range samples { // steady state: all known
				builder.Add(&samples[i], whole)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				builder.Add(&samples[i%len(samples)], whole)
				i++
			}
		})
	}
}

// BenchmarkAddNew adds stacks that were never seen before.
func BenchmarkAddNew(b *testing.B) {
	samples := randomSamples(100_000)
	builder := NewBuilder(Options{Frequency: 4999})
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%len(samples) == 0 {
			builder = NewBuilder(Options{Frequency: 4999})
		}
		builder.Add(&samples[i%len(samples)], whole)
		i++
	}
}

// BenchmarkProfile makes and writes the largest profile there can be.
func BenchmarkProfile(b *testing.B) {
	samples := randomSamples(DefaultMaxStacks)
	builder := NewBuilder(Options{Frequency: 4999})
	for i := range samples {
		builder.Add(&samples[i], whole)
	}
	b.ReportAllocs()
	for b.Loop() {
		p, err := builder.Profile(info)
		if err != nil {
			b.Fatal(err)
		}
		var sink countingWriter
		if err := p.Write(&sink); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(sink), "file-bytes")
	}
}

type countingWriter int

func (w *countingWriter) Write(p []byte) (int, error) {
	*w += countingWriter(len(p))
	return len(p), nil
}

func randomSamples(n int) []collector.Sample {
	random := rand.New(rand.NewPCG(1, 2))
	frame(5000)
	processes := make([]*collector.Process, 1000)
	for i := range processes {
		processes[i] = &collector.Process{PID: fmt.Sprintf("<0.%d.0>", i), Name: "p", Kind: "p"}
	}
	thread := &collector.Thread{Kind: collector.ThreadScheduler, Number: 1}
	samples := make([]collector.Sample, n)
	for i := range samples {
		stack := make([]*collector.Frame, 40)
		for j := range stack {
			stack[j] = frame(random.IntN(5000))
		}
		samples[i] = collector.Sample{Thread: thread, State: collector.StateBIF, Process: processes[random.IntN(1000)], Request: "batch", Stack: stack}
	}
	return samples
}
