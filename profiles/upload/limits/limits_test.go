package limits

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/pprof/profile"
)

var allowed = []string{"workload", "state", "process_kind", "scheduler"}

// many makes a profile of a VM with so many processes, each of which was sampled
// in a stack of its own.
func many(processes, depth int) *profile.Profile {
	random := rand.New(rand.NewPCG(1, 2))
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		DefaultSampleType: "cpu",
		PeriodType:        &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:            10_000_000,
		TimeNanos:         1_764_108_000_000_000_000,
		DurationNanos:     15_000_000_000,
		Mapping:           []*profile.Mapping{{ID: 1, File: "[beam jit]", HasFunctions: true}},
	}
	for i := range 5000 {
		f := &profile.Function{ID: uint64(i + 1), Name: fmt.Sprintf("some_module_%d:a_function/%d", i/20, i%20), Filename: "src/some_module.erl"}
		p.Function = append(p.Function, f)
		p.Location = append(p.Location, &profile.Location{
			ID: uint64(i + 1), Mapping: p.Mapping[0], Address: uint64(i + 1), Line: []profile.Line{{Function: f, Line: 10}},
		})
	}
	for i := range processes {
		s := &profile.Sample{
			Value: []int64{1, 9_000_000 + random.Int64N(2_000_000)},
			Label: map[string][]string{
				"workload": {fmt.Sprint("workload_", i%5)}, "state": {fmt.Sprint("state_", i%11)},
				"process_kind": {fmt.Sprint("session_", i)}, "pid": {fmt.Sprintf("<0.%d.0>", i)},
			},
			NumLabel: map[string][]int64{"scheduler": {int64(i%4 + 1)}},
			NumUnit:  map[string][]string{"scheduler": {"count"}},
		}
		for range depth {
			s.Location = append(s.Location, p.Location[random.IntN(len(p.Location))])
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// totals sums each value over everything and by the first label.
func totals(p *profile.Profile) map[string][2]int64 {
	sums := map[string][2]int64{}
	for _, s := range p.Sample {
		for _, key := range []string{"all", strings.Join(s.Label["workload"], "|")} {
			sum := sums[key]
			for i, v := range s.Value {
				sum[i] += v
			}
			sums[key] = sum
		}
	}
	return sums
}

// check fails the test if a profile is not within limits, and returns it as a
// server would read it.
func check(t *testing.T, p *profile.Profile, l Limits) *profile.Profile {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteUncompressed(&b); err != nil {
		t.Fatal(err)
	}
	if b.Len() > l.Bytes {
		t.Errorf("%d bytes", b.Len())
	}
	read, err := profile.ParseData(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(read.Sample) > l.Samples {
		t.Errorf("%d samples", len(read.Sample))
	}
	sets := map[string]bool{}
	for _, s := range read.Sample {
		if len(s.Location) > l.Depth {
			t.Errorf("a stack of %d frames", len(s.Location))
		}
		sets[fmt.Sprint(s.Label, s.NumLabel)] = true
		for name, values := range s.Label {
			if !slices.Contains(allowed, name) {
				t.Errorf("label %s is not allowed", name)
			}
			for _, v := range values {
				if len(v) > l.Name || !utf8.ValidString(v) {
					t.Errorf("label value %q", v)
				}
			}
		}
	}
	if len(sets) > l.LabelSets {
		t.Errorf("%d sets of labels", len(sets))
	}
	for _, f := range read.Function {
		if len(f.Name) > l.Name && f.Name != FoldedFrame && f.Name != CutFrame || !utf8.ValidString(f.Name) {
			t.Errorf("name %q", f.Name)
		}
	}
	for _, s := range read.SampleType {
		if strings.Contains(s.Type, "-") {
			t.Errorf("sample type %s", s.Type)
		}
	}
	return read
}

func same(t *testing.T, got, want map[string][2]int64) {
	t.Helper()
	for key, sum := range want {
		if got[key] != sum {
			t.Errorf("%s: %v, was %v", key, got[key], sum)
		}
	}
}

func TestHundredThousandProcesses(t *testing.T) {
	p := many(100_000, 10)
	want := totals(p)
	report, err := Servers.Apply(p, allowed)
	if err != nil {
		t.Fatal(err)
	}
	read := check(t, p, Servers)
	same(t, totals(read), want)
	size, _ := size(p)
	t.Logf("%d samples in %d bytes, %+v", len(p.Sample), size, report)
	if report.Folded < 80_000 || len(p.Sample) < 2000 {
		t.Errorf("%d samples are left, %+v", len(p.Sample), report)
	}
	if !strings.Contains(strings.Join(read.Comments, "\n"), "different stacks became coarser") {
		t.Errorf("the profile does not say so: %q", read.Comments)
	}
}

func TestWhatFitsStays(t *testing.T) {
	p := many(500, 40)
	p.Sample = append(p.Sample, &profile.Sample{Location: p.Sample[0].Location, Value: []int64{1, 2}, Label: p.Sample[0].Label, NumLabel: p.Sample[0].NumLabel})
	want := totals(p)
	report, err := Servers.Apply(p, allowed)
	if err != nil || report != (Report{}) {
		t.Fatal(report, err)
	}
	read := check(t, p, Servers)
	same(t, totals(read), want)
	if len(p.Sample) != 501 { // equal but for the unit
		t.Errorf("%d samples are left of 501", len(p.Sample))
	}
	if unit := read.Sample[0].NumUnit["scheduler"]; !slices.Equal(unit, []string{"count"}) {
		t.Errorf("the unit is %v", unit)
	}
}

func TestSmallestAreFolded(t *testing.T) {
	p := many(100, 10)
	p.Sample[57].Value[1] = 1_000_000_000_000
	leaf := p.Sample[57].Location[0]
	l := Servers
	l.Samples = 20
	if _, err := l.Apply(p, allowed); err != nil {
		t.Fatal(err)
	}
	check(t, p, l)
	for _, s := range p.Sample {
		if s.Location[0] == leaf && len(s.Location) == 10 && s.Label["process_kind"][0] == "session_57" {
			return
		}
	}
	t.Error("the largest was folded")
}

func TestOddProfiles(t *testing.T) {
	p := many(10, 3000)
	for i := range p.Sample[0].Location {
		p.Sample[0].Location[i] = p.Location[i%2]
	}
	p.SampleType[0].Type, p.DefaultSampleType = "alloc-space", "no-such"
	p.Function[0].Name = strings.Repeat("é", 5000)
	p.Function[1].Name = "\xff\x00\n"
	p.Sample[1].Label["workload"] = []string{strings.Repeat("x", 5000), "\xfe"}
	p.Sample[2].Label = nil
	p.Sample[3].Location = nil
	want := totals(p)["all"]
	report, err := Servers.Apply(p, allowed)
	if err != nil || report.Cut != 9 {
		t.Fatal(report, err)
	}
	read := check(t, p, Servers)
	if got := totals(read)["all"]; got != want {
		t.Errorf("%v, was %v", got, want)
	}
	deep := p.Sample[0].Location
	if deep[0] != p.Location[0] && deep[0] != p.Location[1] || len(deep) != 1000 {
		t.Error("the leaf is lost")
	}
}

// FuzzApply: whatever a profile is and whatever the limits are, what comes out
// is within them and sums are kept.
func FuzzApply(f *testing.F) {
	f.Add(uint64(1), 100, 20, 10, 2000, 5, 4)
	f.Add(uint64(2), 1000, 8, 16, 10_000, 3, 2)
	f.Add(uint64(3), 50, 5, 1, 700, 1, 1)
	f.Add(uint64(4), 0, 0, 1, 100, 1, 1)
	f.Add(uint64(44), 1055, 0, 16, 10_005, 3, 96)
	f.Fuzz(func(t *testing.T, seed uint64, processes, depth, samples, size, depths, sets int) {
		random := rand.New(rand.NewPCG(seed, 7))
		p := many(min(max(processes, 0), 2000), min(max(depth, 0), 50))
		for _, s := range p.Sample {
			s.Value[random.IntN(2)] = random.Int64N(1<<40) - 1<<39
			if random.IntN(10) == 0 {
				s.Label["workload"] = []string{fmt.Sprint(random.IntN(200)), string([]byte{byte(random.IntN(256))})}
			}
			if random.IntN(3) == 0 {
				s.Location = s.Location[:random.IntN(len(s.Location)+1)]
			}
		}
		l := Limits{Samples: max(samples, 1), Bytes: size, Depth: max(depths, 3), LabelSets: max(sets, 2), Name: 40}
		want := totals(p)["all"]
		if _, err := l.Apply(p, allowed); err != nil {
			if len(p.Sample) > 1 {
				t.Errorf("%v, with %d samples", err, len(p.Sample))
			}
			return
		}
		if got := totals(check(t, p, l))["all"]; got != want {
			t.Errorf("%v, was %v", got, want)
		}
	})
}

func BenchmarkApply(b *testing.B) {
	for _, processes := range []int{1000, 100_000} {
		b.Run(fmt.Sprint(processes), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				p := many(processes, 40)
				b.StartTimer()
				if _, err := Servers.Apply(p, allowed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
