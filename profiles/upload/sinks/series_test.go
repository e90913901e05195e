package sinks

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/grafana/pyroscope/api/model/labelset"
	"google.golang.org/protobuf/proto"
)

// FuzzIngestName: Pyroscope's own parser reads every label of any target back.
func FuzzIngestName(f *testing.F) {
	f.Add("service_name", "verne mq{}", "node", "VerneMQ1@127.0.0.1")
	f.Add("region", "eu, west}", "a=b", "{\"quoted\"}")
	f.Add("__name__", " x ", "9", "\xff\n")
	f.Add("", "", "__", "=,}")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string) {
		series := seriesLabels(&Config{}, &Profile{Labels: map[string]string{name1: value1, name2: value2}})
		set, err := labelset.Parse(ingestName(series))
		if err == nil {
			err = labelset.ValidateLabelSet(set)
		}
		if err != nil {
			t.Fatalf("%q: %v", ingestName(series), err)
		}
		got := set.Labels()
		if got["__name__"] == "" {
			t.Error("no name")
		}
		delete(got, "__name__")
		want := map[string]string{}
		for name, value := range series {
			if name != serviceName {
				want[name] = strings.TrimSpace(strings.NewReplacer(",", "_", "}", "_").Replace(value))
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("%q became %v", series, got)
		}
	})
}

// TestNoMoreLabelsThanServersTake: the least important labels of samples make
// room for those of the target and the sink, and that is counted.
func TestNoMoreLabelsThanServersTake(t *testing.T) {
	p := sample(t)
	for i := range 10 {
		p.Labels[fmt.Sprint("target_", i)] = "x"
	}
	c := Config{Name: "test", Type: TypePyroscopePush, Labels: map[string]string{}}
	for i := range 15 {
		c.Labels[fmt.Sprint("external_", i)] = "x"
	}
	s := newServer(t, TypePyroscopePush, nil)
	c.URL = s.url
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	sink, err := New(c.WithDefaults())
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	deliver, report, err := sink.Prepare(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.all()[0]
	if n := len(got.labels) + len(got.profile.Sample[0].Label); n > 30 || report.Labels != 2 { // workload and scheduler
		t.Errorf("%d labels, %d left out", n, report.Labels)
	}
}

func kept(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRetention(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes.txt", "2026-pb.gz", ".20260304T031244Z-left-cpu-00000000.pb.gz"} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, 3000), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := sample(t)
	size := Size(len(p.Data))
	c := Config{Name: "local", Type: TypeDirectory, Directory: Directory{Path: dir, MaxAge: time.Hour, MaxBytes: 3 * size}}
	put := func(age time.Duration) {
		t.Helper()
		p.Start = time.Now().Add(-age)
		if err := prepare(t, c, p)(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	put(2 * time.Hour)
	if names := kept(t, dir); !slices.Equal(names, []string{"2026-pb.gz", "notes.txt"}) {
		t.Errorf("one that is too old was kept, or what an interrupted write left: %v", names)
	}
	for age := range 5 {
		put(time.Duration(50-age) * time.Minute)
	}
	names := kept(t, dir)
	if len(names) != 5 || !strings.HasPrefix(names[3], p.Start.UTC().Format("20060102T150405Z")+"-VerneMQ1@127.0.0.1-cpu-") {
		t.Errorf("3 of 5 should be kept, the newest: %v", names)
	}
	content, err := os.ReadFile(filepath.Join(dir, names[3]))
	if err != nil || !bytes.Equal(content, p.Data) {
		t.Errorf("the file is not the profile: %v", err)
	}
}

func TestLabelsInADirectory(t *testing.T) {
	c := Config{
		Name: "local", Type: TypeDirectory, Directory: Directory{Path: t.TempDir()},
		Labels: map[string]string{"region": "eu"}, LabelAllow: []string{"pid"},
	}
	if err := prepare(t, c, sample(t))(t.Context()); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(filepath.Join(c.Directory.Path, kept(t, c.Directory.Path)[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := profile.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if labels := fmt.Sprint(got.Sample[0].Label); len(got.Sample) != 1 || labels != "map[pid:[<0.1.0>] region:[eu]]" {
		t.Errorf("%d samples, with %s", len(got.Sample), labels)
	}
}

// large is a profile of so many processes, each sampled in a
// stack of its own.
func large(t testing.TB, processes, depth int) *Profile {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 1))
	small := sample(t)
	p, err := profile.ParseData(small.Data)
	if err != nil {
		t.Fatal(err)
	}
	for i := range min(2*processes, 20_000) {
		f := &profile.Function{ID: uint64(i + 2), Name: fmt.Sprintf("a_module_with_a_long_name_%d:function/%d", i/9, i%9), Filename: fmt.Sprintf("src/module_%d.erl", i/9)}
		p.Function = append(p.Function, f)
		p.Location = append(p.Location, &profile.Location{ID: uint64(i + 2), Address: uint64(i), Line: []profile.Line{{Function: f, Line: int64(i)}}})
	}
	for i := range processes {
		s := &profile.Sample{Value: []int64{1, 10_000_000}, Label: map[string][]string{
			"workload": {fmt.Sprint("workload_", i%7)}, "process_kind": {fmt.Sprint("kind_", i)}, "request": {fmt.Sprint("request_", i%1000)},
		}}
		for range depth {
			s.Location = append(s.Location, p.Location[random.IntN(len(p.Location))])
		}
		p.Sample = append(p.Sample, s)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	small.Data = b.Bytes()
	return small
}

// TestLargeProfiles: what a server with the usual limits gets of a VM with many
// processes is within them, and its sum is that of the profile.
func TestLargeProfiles(t *testing.T) {
	const processes = 17_000
	s := newServer(t, TypeOTLPGRPC, nil)
	if err := prepare(t, s.config(), large(t, processes, 12))(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := s.all()[0].otlp
	samples := got.ResourceProfiles[0].ScopeProfiles[0].Profiles[0].Samples
	var sum int64
	for _, s := range samples {
		sum += s.Values[0]
	}
	size := proto.Size(got)
	t.Logf("%d samples in %d bytes", len(samples), size)
	if size > 4<<20 || len(samples) > 16_000 || len(samples) < 5000 || sum != processes+2 {
		t.Errorf("%d samples of %d in %d bytes", len(samples), sum, size)
	}
}

// TestRequestsThatAreTooLarge: OTLP may take more room than pprof.
func TestRequestsThatAreTooLarge(t *testing.T) {
	const processes = 500
	c := Config{Type: TypeOTLPGRPC}.WithDefaults()
	request, report, err := export(&c, large(t, processes, 60), scopeName, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, s := range request.ResourceProfiles[0].ScopeProfiles[0].Profiles[0].Samples {
		sum += s.Values[0]
	}
	if size := proto.Size(request); size > 100_000 || size < 20_000 || sum != processes+2 || report.Folded == 0 {
		t.Errorf("%d samples in %d bytes, %+v", sum, size, report)
	}
}

func BenchmarkPrepare(b *testing.B) {
	p := large(b, 1000, 60)
	for _, kind := range remote {
		b.Run(kind, func(b *testing.B) {
			s, err := New(Config{Name: "test", Type: kind, URL: "http://127.0.0.1:1"}.WithDefaults())
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.ReportAllocs()
			for range b.N {
				if _, _, err := s.Prepare(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
