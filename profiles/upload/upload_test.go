package upload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/rs/zerolog"
)

// small returns a profile that differs by its number.
func small(t testing.TB, number int) Profile {
	t.Helper()
	function := &profile.Function{ID: 1, Name: fmt.Sprintf("m:f%d/0", number)}
	location := &profile.Location{ID: 1, Address: 1, Line: []profile.Line{{Function: function, Line: 1}}}
	p := &profile.Profile{
		SampleType:    []*profile.ValueType{{Type: "samples", Unit: "count"}, {Type: "cpu", Unit: "nanoseconds"}},
		PeriodType:    &profile.ValueType{Type: "cpu", Unit: "nanoseconds"},
		Period:        10_000_000,
		TimeNanos:     1,
		DurationNanos: 1,
		Sample: []*profile.Sample{{
			Location: []*profile.Location{location}, Value: []int64{1, 10_000_000},
			Label: map[string][]string{"workload": {"ae_exchange"}, "pid": {"<0.1.0>"}},
		}},
		Location: []*profile.Location{location},
		Function: []*profile.Function{function},
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	end := time.Now()
	return Profile{
		Kind: KindCPU, Labels: map[string]string{"service_name": "vernemq", "node": "VerneMQ1@127.0.0.1"},
		Start: end.Add(-15 * time.Second), End: end, Data: b.Bytes(),
	}
}

// start makes a pipeline and runs it until the test ends.
func start(t testing.TB, spool string, configs ...Config) *Pipeline {
	t.Helper()
	p, err := New(configs, spool, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	run(t, p)
	return p
}

// await waits until something holds of the pipeline's counts.
func await(t testing.TB, p *Pipeline, what string, holds func([]SinkStats) bool) []SinkStats {
	t.Helper()
	for range 3000 {
		if s := p.Stats(); holds(s) {
			return s
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not within 30 s: %s; %+v", what, p.Stats())
	return nil
}

func TestFilesInADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	p := start(t, t.TempDir(), Config{Name: "local", Type: "directory", Directory: Directory{Path: dir}})
	added := small(t, 1)
	for range 2 { // one that is delivered twice is one file
		if err := p.Add(added); err != nil {
			t.Fatal(err)
		}
	}
	await(t, p, "both are sent", func(s []SinkStats) bool { return s[0].Sent == 2 && s[0].QueuedProfiles == 0 })
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Fatalf("%d files, %v; want one", len(files), err)
	}
	if name := files[0].Name(); !strings.Contains(name, "-VerneMQ1@127.0.0.1-cpu-") {
		t.Errorf("the file is named %s", name)
	}
	content, err := os.ReadFile(filepath.Join(dir, files[0].Name()))
	if err != nil || !bytes.Equal(content, added.Data) {
		t.Errorf("the file is not the profile: %v", err)
	}
}

// FuzzUnmarshal: whatever is in a queue, and a profile comes out as it went in.
func FuzzUnmarshal(f *testing.F) {
	p := Profile{Kind: KindCPU, Labels: map[string]string{"a": "b"}, Start: time.Unix(1, 2), End: time.Unix(3, 4), Data: []byte("data")}
	good, err := marshal(&p)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:7])
	f.Add([]byte{255, 255, 255, 255, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := unmarshal(b)
		if err != nil {
			return
		}
		again, err := marshal(p)
		if err != nil {
			return // a time that JSON cannot have
		}
		q, err := unmarshal(again)
		if err != nil || q.ID() != p.ID() {
			t.Errorf("%+v became %+v, %v", p, q, err)
		}
	})
}
