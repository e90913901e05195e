package summary

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/sampletest"
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
	golden(t, "report-all.txt", render(t, broker(info), Style{Unicode: true, All: true}, profile))
	golden(t, "report-wide-colour.txt", render(t, storm(), Style{Width: 200, Unicode: true, Color: true}, profile))
	golden(t, "report-storm.txt", render(t, storm(), Style{Unicode: true}, profile))
	golden(t, "report-storm-all.txt", render(t, storm(), Style{Unicode: true, All: true}, profile))
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

// storm is a summary with something in each section.
func storm() *Summary {
	s := broker(info)
	s.Diagnosis = []Diagnosis{
		{Cause: "client_connection_storm", About: "clients connect again before they were served", Verdict: VerdictLikely,
			Evidence: []string{
				"63% of the work is client_churn: 0.17 of 0.34 cores", "clients open 71.3 connections/s, 95 at the peak",
				"120 client ids sent 2140 CONNECTs: 56% were closed before the CONNACK, 31% came while their id was still connected",
				"log: unknown_sync_event 840 times (28.0/s): got unknown sync event in drain state {cleanup,session_taken_over}",
				"log: drain_failed 40 times (1.3/s), and 210 before, since 02:40: can't drain queue _ for [_]['broker@10.0.0.2'] due to not_found",
			},
			Advice: []string{
				"Let clients back off after a failed connect, exponentially and with a random part, and give them more time for the CONNACK.",
				"Find the clients by the ids and addresses above; two devices with one id take each other's session for ever.",
			}},
		{Cause: "inconsistent_cluster_state", About: "the nodes' stores do not agree", Verdict: VerdictPossible,
			Evidence: []string{"21% of the work is ae_exchange: 0.06 of 0.34 cores", "log: no exchange that repeats the one before it"},
			Surer:    []string{"record again in ten minutes: has it ended?"},
			Advice:   []string{"Take the cluster down, remove the persisted data, and initialise it anew."}},
		{Cause: "vm_busy_wait", Verdict: VerdictUnlikely, Evidence: []string{"schedulers spin for 11% of the CPU time, 0.04 of 0.34 cores"}, Advice: []string{}},
		{Cause: "none_of_these", Verdict: VerdictUnlikely, Evidence: []string{"the most work is client_churn: 63%"}, Advice: []string{}},
	}
	s.Connections = &Connections{
		Listeners: []Listener{
			{Address: "0.0.0.0:1883", Protocol: ProtocolMQTT, Opened: 2140, OpenedPerSecond: 71.3, PeakPerSecond: 95, Closed: 2101, ClosedByPeer: 1980, ClosedBeforeConnack: 1204, MedianLifetimeSeconds: 0.13},
			{Address: "[::]:8883", Protocol: ProtocolTLS, Opened: 3, OpenedPerSecond: 0.1, PeakPerSecond: 1, Closed: 1},
		},
		Remotes: []Remote{{Address: "10.0.7.9", Opened: 800, Closed: 790}},
		MQTT: &MQTT{Connects: 2140, Connacks: 930, Refused: 4, WithoutConnack: 1204, Clients: 120, Repeated: 118, TakenOver: 663, CleanSession: 1600,
			Versions: map[string]uint64{"3.1.1": 2000, "5": 140}},
		Clients: []Client{{ID: "meter-17", Connects: 96, Nodes: 2}, {ID: "\x1b[2J", Connects: 90, Nodes: 1}},
		Lost:    2,
	}
	s.LogFiles = []LogFile{{Path: "/var/log/broker/console.log", Lines: 4000, Bytes: 500_000}, {Path: "/var/log/broker/error.log", Lines: 900, Bytes: 100_000}}
	s.Logs = []Log{
		{Signal: "unknown_sync_event", Count: 840, InWindow: 840, PerSecond: 28, First: sampletest.Start, Last: sampletest.Start.Add(29 * time.Second)},
		{Signal: "drain_failed", Count: 250, InWindow: 40, PerSecond: 1.33, First: sampletest.Start.Add(-32 * time.Minute), Last: sampletest.Start.Add(28 * time.Second)},
		{Signal: "keepalive_expired", Count: 3, First: sampletest.Start.Add(-32 * time.Minute), Last: sampletest.Start.Add(-20 * time.Minute)},
	}
	s.Distribution = &Distribution{Detail: "totals", Peers: []Peer{{Node: "broker@10.0.0.2", SentBytes: 12_345_678, ReceivedBytes: 999}}}
	return s
}

// TestReportFitsAScreen: no line but those to be copied is wider than the
// terminal, whatever the names, and the whole is at most 40 lines.
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
	if n := strings.Count(render(t, storm(), Style{Unicode: true}, "dir/cpu.pb.gz"), "\n"); n > 40 {
		t.Errorf("%d lines", n)
	}
	full := b.Summary(info)
	stuffed := storm()
	full.Connections, full.Logs, full.LogFiles, full.Distribution = stuffed.Connections, stuffed.Logs, stuffed.LogFiles, stuffed.Distribution
	for range 4 {
		long := strings.Repeat("a sentence without an end ", 20)
		full.Diagnosis = append(full.Diagnosis, Diagnosis{Cause: "a_cause", Verdict: VerdictLikely, Evidence: []string{long, long, long, long, long, long}, Advice: []string{long, long, long}})
	}
	for _, width := range []int{0, 80, 93, 100, 500} {
		report := render(t, full, Style{Width: width, Unicode: true}, "dir/cpu.pb.gz")
		before, _, found := strings.Cut(report, "\nMore ")
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

// TestReportSaysWhatIsChance: few samples are no reason to worry if all times are
// the kernel's.
func TestReportSaysWhatIsChance(t *testing.T) {
	few := info
	few.CPU.ProcessSeconds = 9.6
	few.Weights = map[string]float64{"scheduler": 0.95}
	report := render(t, broker(few), Style{}, "")
	if strings.Contains(report, "WARNING") || !strings.Contains(report, "chance)") {
		t.Errorf("not a quiet report:\n%s", report)
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
	var full bytes.Buffer
	if err := storm().Write(&full); err != nil {
		f.Fatal(err)
	}
	f.Add(full.Bytes())
	f.Add([]byte(`{"schema":"beamprof.summary/1","target":{"node":"\u001b"},"logs":[{"signal":"\n","in_window":1,"values":[{"fields":{"peer":"\u001b"},"in_window":9}]}],"diagnosis":[{"cause":"\u001b","verdict":"\u001b"},{"verdict":"likely","evidence":["\u001b"]}]}`))
	f.Add([]byte(`{"schema":"beamprof.summary/1","cpu":{"samples":1,"sampled_seconds":1e308,"process_seconds":-1e308},"process_kinds":[{"kind":"\u001b[2J","processes":-1,"share":-5}]}`))
	f.Add([]byte(`{"schema":"beamprof.summary/1","window":{"start":"0001-01-01T00:00:00Z","frequency_hz":-1,"ended":"?"},"cpu":{"samples":18446744073709551615},"states":[{"name":"gc","share":1e300}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		other := *s
		other.Target.Node += "'"
		cluster := Join([]*Summary{s, &other})
		cluster.Diagnosis = s.Diagnosis
		var joined bytes.Buffer
		if err := cluster.Report(&joined, Style{Unicode: true}, []string{"a b\n/cpu.pb.gz"}); err != nil {
			t.Error(err)
		}
		report := render(t, s, Style{Unicode: true}, "a b\n/cpu.pb.gz") + render(t, s, Style{Unicode: true, All: true}, "") + joined.String()
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

// TestClusterGolden: the joined evidence of two nodes.
func TestClusterGolden(t *testing.T) {
	serving, fetching := storm(), storm()
	fetching.Target.Node = "broker@10.0.0.2"
	fetching.Logs = append(fetching.Logs,
		Log{Signal: "ae_exchange", Count: 130, InWindow: 120, Values: []LogValues{{Fields: map[string]string{"group": "meta1", "peer": "'broker@10.0.0.1'", "count": "200"}, Count: 130, InWindow: 120}}},
		Log{Signal: "empty_sync", Count: 130, InWindow: 118, Values: []LogValues{{Fields: map[string]string{"group": "meta1", "peer": "'broker@10.0.0.1'", "count": "200"}, Count: 130, InWindow: 118}}})
	nodes := []*Summary{serving, fetching}
	if !Joinable(nodes) || Joinable([]*Summary{serving, serving}) || Joinable(nodes[:1]) || Joinable([]*Summary{serving, {}}) {
		t.Error("nodes that are not different are joined, or others not")
	}
	c := Join(nodes)
	if len(c.Warnings) != 0 {
		t.Errorf("%q", c.Warnings)
	}
	c.Diagnosis = serving.Diagnosis
	var b bytes.Buffer
	if err := c.Report(&b, Style{Unicode: true}, []string{"one/cpu.pb.gz", ""}); err != nil {
		t.Fatal(err)
	}
	golden(t, "cluster.txt", b.String())
	fetching.Window.Start = fetching.Window.Start.Add(time.Hour)
	if c := Join(nodes); len(c.Warnings) != 1 {
		t.Errorf("%q", c.Warnings)
	}
}
