package otlp

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
	collector "go.opentelemetry.io/proto/otlp/collector/profiles/v1development"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/protobuf/proto"

	"github.com/beamprof/beamprof/profiles/upload/otlp/otlptest"
)

// random makes a profile out of a seed: shared and inlined frames, frames
// without a mapping, labels of every shape.
func random(seed uint64, samples int) *profile.Profile {
	r := rand.New(rand.NewPCG(seed, 3))
	p := &profile.Profile{
		SampleType:        []*profile.ValueType{{Type: "messages", Unit: "count"}, {Type: "bytes", Unit: "bytes"}},
		DefaultSampleType: "bytes",
		PeriodType:        &profile.ValueType{Type: "messages", Unit: "count"},
		Period:            1,
		TimeNanos:         1_764_108_000_123_456_789,
		DurationNanos:     15_000_000_000,
		Comments:          []string{"node: a@b", "frequency: 19 Hz"},
	}
	if r.IntN(2) == 0 {
		p.SampleType = []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}}
		p.PeriodType, p.Period = &profile.ValueType{Type: "cpu", Unit: "nanoseconds"}, 52_631_578
	}
	for i, file := range []string{"[beam jit]", "/usr/lib/erlang/erts/bin/beam.smp", "[kernel.kallsyms]"} {
		p.Mapping = append(p.Mapping, &profile.Mapping{ID: uint64(i + 1), Start: uint64(i) << 20, Limit: uint64(i+1) << 20, Offset: 4096, File: file})
	}
	p.Mapping[1].BuildID = "abcdef"
	for i := range 40 {
		p.Function = append(p.Function, &profile.Function{
			ID: uint64(i + 1), Name: fmt.Sprintf("m:f/%d", i/2), SystemName: fmt.Sprint(i % 3), Filename: fmt.Sprint(i%4, ".erl"), StartLine: int64(i),
		})
	}
	for i := range 100 {
		l := &profile.Location{ID: uint64(i + 1), Address: uint64(r.IntN(1 << 22))}
		if i%5 > 0 {
			l.Mapping = p.Mapping[r.IntN(3)]
		}
		for range r.IntN(3) {
			l.Line = append(l.Line, profile.Line{Function: p.Function[r.IntN(40)], Line: int64(r.IntN(100)), Column: int64(r.IntN(3))})
		}
		p.Location = append(p.Location, l)
	}
	for range samples {
		s := &profile.Sample{
			Value: []int64{r.Int64N(5), r.Int64N(100)},
			Label: map[string][]string{"workload": {fmt.Sprint("w", r.IntN(4))}}, NumLabel: map[string][]int64{}, NumUnit: map[string][]string{},
		}
		for range r.IntN(20) {
			s.Location = append(s.Location, p.Location[r.IntN(100)])
		}
		switch r.IntN(5) {
		case 0:
			s.Label["two"] = []string{"a", fmt.Sprint(r.IntN(3))}
		case 1:
			s.NumLabel["scheduler"], s.NumUnit["scheduler"] = []int64{r.Int64N(3) + 1}, []string{"count"}
		case 2:
			s.NumLabel["sizes"] = []int64{r.Int64N(2) + 1, 2}
		case 3:
			s.Label = nil
		}
		p.Sample = append(p.Sample, s)
	}
	return p
}

// checkTables fails the test if the dictionary breaks the protocol's rules:
// element 0 is the zero value, nothing is there twice.
func checkTables(t *testing.T, d *profiles.ProfilesDictionary) {
	t.Helper()
	zero := []proto.Message{&profiles.Mapping{}, &profiles.Location{}, &profiles.Function{}, &profiles.KeyValueAndUnit{}, &profiles.Stack{}}
	for i, m := range []proto.Message{d.MappingTable[0], d.LocationTable[0], d.FunctionTable[0], d.AttributeTable[0], d.StackTable[0]} {
		if !proto.Equal(m, zero[i]) {
			t.Errorf("element 0 is %v", m)
		}
	}
	if d.StringTable[0] != "" || len(d.LinkTable) != 1 || len(d.LinkTable[0].TraceId) != 16 || len(d.LinkTable[0].SpanId) != 8 {
		t.Error("no zero text or link")
	}
	seen := map[string]bool{}
	for _, s := range d.StringTable {
		if seen["s"+s] {
			t.Errorf("%q is there twice", s)
		}
		seen["s"+s] = true
	}
	for _, a := range d.AttributeTable[1:] {
		b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(a)
		if seen["a"+string(b)] {
			t.Errorf("%v is there twice", a)
		}
		seen["a"+string(b)] = true
	}
	for _, s := range d.StackTable {
		if key := "k" + fmt.Sprint(s.LocationIndices); seen[key] {
			t.Errorf("stack %v is there twice", s)
		} else {
			seen[key] = true
		}
	}
}

// checkRequest converts a profile, sends it over the wire and compares.
func checkRequest(t *testing.T, p *profile.Profile) *collector.ExportProfilesServiceRequest {
	t.Helper()
	if err := p.CheckValid(); err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(Request(p, Options{ID: [16]byte{1, 2, 15: 0}, Resource: map[string]string{"service.name": "vernemq", "node": "a@b"}, Scope: "beamprof"}))
	if err != nil {
		t.Fatal(err)
	}
	got := &collector.ExportProfilesServiceRequest{}
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatal(err)
	}
	checkTables(t, got.Dictionary)
	made := got.ResourceProfiles[0].ScopeProfiles[0].Profiles
	columns := []int{0, 1}
	if p.SampleType[0].Type == "samples" {
		columns = []int{0}
	}
	if len(made) != len(columns) {
		t.Fatalf("%d profiles", len(made))
	}
	text := got.Dictionary.StringTable
	for i, column := range columns {
		m := made[i]
		if diff := cmp.Diff(otlptest.OfPprof(p, column), otlptest.Of(t, got.Dictionary, m)); diff != "" {
			t.Errorf("column %d (- pprof, + otlp):\n%s", column, diff)
		}
		if text[m.SampleType.TypeStrindex] != p.SampleType[column].Type || text[m.SampleType.UnitStrindex] != p.SampleType[column].Unit ||
			text[m.PeriodType.TypeStrindex] != p.PeriodType.Type || text[m.PeriodType.UnitStrindex] != p.PeriodType.Unit {
			t.Errorf("types %v, %v", m.SampleType, m.PeriodType)
		}
		if m.Period != p.Period || m.TimeUnixNano != uint64(p.TimeNanos) || m.DurationNano != uint64(p.DurationNanos) {
			t.Errorf("period %d, time %d, duration %d", m.Period, m.TimeUnixNano, m.DurationNano)
		}
		if len(m.ProfileId) != 16 || m.ProfileId[0] != 1 || i > 0 && slices.Equal(m.ProfileId, made[0].ProfileId) {
			t.Errorf("id %x", m.ProfileId)
		}
	}
	return got
}

func TestNothingIsLost(t *testing.T) {
	for seed := range uint64(20) {
		got := checkRequest(t, random(seed, 300))
		if attributes := fmt.Sprint(got.ResourceProfiles[0].Resource.Attributes); !strings.Contains(attributes, "service.name") || !strings.Contains(attributes, "a@b") {
			t.Errorf("resource %s", attributes)
		}
	}
}

// TestManyLocations: numbers of three bytes.
func TestManyLocations(t *testing.T) {
	p := random(1, 0)
	for i := range 20_000 {
		l := &profile.Location{ID: uint64(1000 + i), Address: uint64(i), Line: []profile.Line{{Function: p.Function[i%40]}}}
		p.Location = append(p.Location, l)
		p.Sample = append(p.Sample, &profile.Sample{Location: []*profile.Location{l}, Value: []int64{1, 1}})
	}
	checkRequest(t, p)
}

func TestFrameTypes(t *testing.T) {
	p := random(2, 100)
	got := checkRequest(t, p)
	d := got.Dictionary
	want := map[string]string{"": "", "[beam jit]": "beam", "/usr/lib/erlang/erts/bin/beam.smp": "native", "[kernel.kallsyms]": "kernel"}
	for _, l := range d.LocationTable {
		kind := ""
		for _, a := range l.AttributeIndices {
			if d.StringTable[d.AttributeTable[a].KeyStrindex] == "profile.frame.type" {
				kind = d.AttributeTable[a].Value.GetStringValue()
			}
		}
		if file := d.StringTable[d.MappingTable[l.MappingIndex].FilenameStrindex]; kind != want[file] {
			t.Errorf("a frame of %q has the type %q", file, kind)
		}
	}
}

// FuzzRequest: any profile that pprof reads can be converted, and nothing is lost.
func FuzzRequest(f *testing.F) {
	for seed := range uint64(4) {
		var b strings.Builder
		if err := random(seed, 5).WriteUncompressed(&b); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(b.String()))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := profile.ParseData(data)
		if err != nil {
			return
		}
		request := Request(p, Options{})
		if _, err := proto.Marshal(request); err != nil {
			if strings.Contains(err.Error(), "UTF-8") {
				return // limits.Apply sees to that
			}
			t.Fatal(err)
		}
		checkTables(t, request.Dictionary)
		for _, made := range request.ResourceProfiles[0].ScopeProfiles[0].Profiles {
			for i, column := range columns(p) {
				if request.ResourceProfiles[0].ScopeProfiles[0].Profiles[i] != made {
					continue
				}
				var got, want int64
				for _, s := range made.Samples {
					got += s.Values[0]
				}
				for _, s := range p.Sample {
					want += s.Value[column]
				}
				if got != want {
					t.Errorf("%d became %d", want, got)
				}
			}
		}
	})
}

func BenchmarkRequest(b *testing.B) {
	p := random(1, 3000)
	for range b.N {
		if _, err := proto.Marshal(Request(p, Options{})); err != nil {
			b.Fatal(err)
		}
	}
}
