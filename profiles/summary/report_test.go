package summary

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

func render(t testing.TB, s *Summary, style Style, profile string) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Report(&b, style, profile); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReportGolden(t *testing.T) {
	const profile = "beamprof-broker@10.0.0.1-20260304T031244Z/cpu.pb.gz"
	golden(t, "report.txt", render(t, broker(info), Style{Unicode: true}, profile))
	golden(t, "report-wide-colour.txt", render(t, broker(info), Style{Width: 200, Unicode: true, Color: true}, profile))
	golden(t, "report-ascii.txt", render(t, broker(info), Style{}, "/tmp/it's here/cpu.pb.gz"))

	troubled := info
	troubled.Target.Node = ""
	troubled.CPU.ProcessSeconds = 13.3
	troubled.CPU.Lost = 320
	troubled.CPU.WithoutStack = 12
	troubled.Window.Ended = EndedInterrupted
	troubled.Warnings = []string{"kernel frames have no names: allow CAP_SYSLOG, or set sysctl kernel.kptr_restrict=0"}
	golden(t, "report-troubled.txt", render(t, broker(troubled), Style{Unicode: true}, ""))

	empty := info
	empty.CPU = CPU{}
	golden(t, "report-empty.txt", render(t, NewBuilder(Options{Frequency: 99}).Summary(empty), Style{Unicode: true}, profile))
}

// TestReportFitsAScreen: no line but those to be copied is wider than the
// terminal, whatever the names, and the whole is at most 66 lines.
func TestReportFitsAScreen(t *testing.T) {
	b := NewBuilder(Options{Frequency: 99})
	for i := range 1000 {
		long := strings.Repeat("elixir_module_name_", i%20) + ":函数/3"
		process := &collector.Process{PID: "<0.123456.789>", Name: long, Kind: long}
		b.Add(&collector.Sample{
			Thread: &collector.Thread{Name: long}, State: collector.State(i % 12), Process: process, Request: long, OnBehalfOf: long,
			Stack: []*collector.Frame{{Kind: collector.FrameNative, Function: long}, {Kind: collector.FrameErlang, Function: long}},
		}, attribution.Part{Workload: "w" + long, Basis: "stack", Samples: 1, Nanoseconds: 1_000_000_000 / 99})
	}
	for _, width := range []int{0, 80, 93, 100, 500} {
		report := render(t, b.Summary(info), Style{Width: width, Unicode: true}, "dir/cpu.pb.gz")
		before, _, found := strings.Cut(report, "DIG FURTHER")
		if !found {
			t.Fatal("no commands")
		}
		for line := range strings.Lines(before) {
			if w := text.Width(strings.TrimSuffix(line, "\n")); w > min(max(width, 80), 100) {
				t.Errorf("at width %d a line has %d columns: %s", width, w, line)
			}
		}
		if n := strings.Count(report, "\n"); n > 66 {
			t.Errorf("%d lines", n)
		}
	}
}

func TestReportSaysWhenTimesDisagree(t *testing.T) {
	agreeing := render(t, broker(info), Style{}, "")
	if strings.Contains(agreeing, "WARNING") || !strings.Contains(agreeing, "kernel counted 10.07 s (+0.3%)") {
		t.Errorf("not a quiet report:\n%s", agreeing)
	}
	apart := info
	apart.CPU.ProcessSeconds = 13
	if report := render(t, broker(apart), Style{}, ""); !strings.Contains(report, "WARNING") || strings.Contains(report, " s sampled") {
		t.Errorf("22 %% are missing and the report does not say so:\n%s", report)
	}
}

type failingWriter struct{}

var errWrite = errors.New("no space left")

func (failingWriter) Write([]byte) (int, error) { return 0, errWrite }

func TestWriteErrorsAreReturned(t *testing.T) {
	if err := broker(info).Report(failingWriter{}, Style{}, ""); !errors.Is(err, errWrite) {
		t.Errorf("Report: %v", err)
	}
	if err := broker(info).Write(failingWriter{}); !errors.Is(err, errWrite) {
		t.Errorf("Write: %v", err)
	}
}

func TestReadRefusesOtherFiles(t *testing.T) {
	for name, content := range map[string]string{
		"empty":         "",
		"no JSON":       "hello",
		"gzip":          "\x1f\x8b\x08\x00",
		"other JSON":    `{"a": 1}`,
		"array":         `[1]`,
		"later schema":  `{"schema": "beamprof.summary/2"}`,
		"wrong types":   `{"schema": "beamprof.summary/1", "cpu": []}`,
		"trailing":      `{"schema": "beamprof.summary/1"} {}`,
		"far too large": `{"schema": "beamprof.summary/1"` + strings.Repeat(" ", maxFile) + "}",
	} {
		if _, err := Read(strings.NewReader(content)); !errors.Is(err, ErrSchema) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Read(strings.NewReader(`{"schema": "beamprof.summary/1", "of_a_later_version": {}}`)); err != nil {
		t.Errorf("unknown fields: %v", err)
	}
}

// FuzzRead: whatever a file holds, reading it and printing what was read ends
// well and prints nothing that steers a terminal.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := broker(info).Write(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"schema":"beamprof.summary/1","cpu":{"samples":1,"sampled_seconds":1e308,"process_seconds":-1e308},"process_kinds":[{"kind":"\u001b[2J","processes":-1,"share":-5}]}`))
	f.Add([]byte(`{"schema":"beamprof.summary/1","window":{"start":"0001-01-01T00:00:00Z","frequency_hz":-1,"ended":"?"},"cpu":{"samples":18446744073709551615},"states":[{"name":"gc","share":1e300}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		report := render(t, s, Style{Unicode: true}, "a b\n/cpu.pb.gz")
		if !utf8.ValidString(report) {
			t.Error("not UTF-8")
		}
		for line := range strings.Lines(report) {
			if line = strings.TrimSuffix(line, "\n"); text.Clean(line) != line {
				t.Errorf("control characters: %q", line)
			}
		}
		if err := s.Write(&bytes.Buffer{}); err != nil {
			t.Error(err)
		}
	})
}
