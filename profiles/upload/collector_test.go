package upload

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/pprof/profile"
	profiles "go.opentelemetry.io/proto/otlp/profiles/v1development"
	"google.golang.org/protobuf/proto"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/pprof"
	"github.com/beamprof/beamprof/profiles/sampletest"
	"github.com/beamprof/beamprof/profiles/upload/limits"
	"github.com/beamprof/beamprof/profiles/upload/otlp/otlptest"
	"github.com/beamprof/beamprof/profiles/upload/sinks"
)

const collectorConfig = `
receivers:
  otlp:
    protocols:
      grpc: {endpoint: %s}
      http: {endpoint: %s}
exporters:
  file: {path: %s, format: proto}
service:
  pipelines:
    profiles: {receivers: [otlp], exporters: [file]}
`

// startCollector runs a Collector that writes to a file, and returns where it
// listens and what ends it.
func startCollector(t *testing.T, binary, output string) (grpc, http string, stop func()) {
	t.Helper()
	grpc, http = freeAddress(t), freeAddress(t)
	config := filepath.Join(t.TempDir(), "collector.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, collectorConfig, grpc, http, output), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	command := exec.Command(binary, "--config", "file:"+config, "--feature-gates=service.profilesSupport")
	command.Stdout, command.Stderr = &log, &log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	stop = func() {
		command.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the collector: %v\n%s", err, log.String())
			}
			ended <- nil
		case <-time.After(20 * time.Second):
			command.Process.Kill()
			t.Error("the collector does not end")
		}
	}
	t.Cleanup(stop)
	return grpc, http, stop
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// broker is a CPU profile as beamprof writes it.
func broker(t testing.TB) Profile {
	t.Helper()
	builder := pprof.NewBuilder(pprof.Options{Frequency: 99})
	rules, _ := attribution.Builtin("vernemq")
	attributor := attribution.New(rules, 1_000_000_000/99, func(s *collector.Sample, part attribution.Part) { builder.Add(s, part) })
	for _, s := range sampletest.Broker() {
		attributor.Add(s)
	}
	attributor.Close()
	start := time.Now().Add(-30 * time.Second)
	p, err := builder.Profile(pprof.Info{Version: "test", Node: "VerneMQ1@127.0.0.1", Executable: sampletest.Executable, Start: start, Duration: 30 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		t.Fatal(err)
	}
	return Profile{Kind: KindCPU, Labels: map[string]string{"service_name": "vernemq", "node": "VerneMQ1@127.0.0.1"}, Start: start, End: time.Now(), Data: b.Bytes()}
}

// TestCollector: what a real OpenTelemetry Collector writes is what is in the
// local file, but for the labels that are not uploaded.
func TestCollector(t *testing.T) {
	binary := os.Getenv("BEAMPROF_COLLECTOR")
	if binary == "" {
		t.Skip("no collector: run scripts/collector-test, which builds one")
	}
	local, output := t.TempDir(), filepath.Join(t.TempDir(), "profiles")
	grpc, http, stop := startCollector(t, binary, output)
	p := start(t, t.TempDir(),
		Config{Name: "grpc", Type: "otlp_grpc", URL: "http://" + grpc, Labels: map[string]string{"via": "grpc"}},
		Config{Name: "http", Type: "otlp_http", URL: "http://" + http, Labels: map[string]string{"via": "http"}},
		Config{Name: "local", Type: "directory", Directory: Directory{Path: local}},
	)
	if err := p.Add(broker(t)); err != nil { // before the collector listens, perhaps
		t.Fatal(err)
	}
	await(t, p, "the collector has the profile", func(s []SinkStats) bool { return s[0].Sent == 1 && s[1].Sent == 1 && s[2].Sent == 1 })
	stop()

	names, err := filepath.Glob(filepath.Join(local, "*"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	file, err := os.Open(names[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	kept, err := profile.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := limits.None.Apply(kept, sinks.DefaultLabels()); err != nil {
		t.Fatal(err)
	}
	want := otlptest.OfPprof(kept, 0)
	via := map[string]bool{}
	for _, data := range written(t, output) {
		for _, r := range data.ResourceProfiles {
			for _, a := range r.Resource.Attributes { // the collector moves text to the dictionary
				if text := data.Dictionary.StringTable; text[a.KeyStrindex] == "via" {
					via[text[a.Value.GetStringValueStrindex()]] = true
				}
			}
			made := r.ScopeProfiles[0].Profiles
			if len(made) != 1 || made[0].TimeUnixNano != uint64(kept.TimeNanos) || made[0].DurationNano != uint64(kept.DurationNanos) || made[0].Period != kept.Period {
				t.Errorf("%d profiles, %v", len(made), made[0])
			}
			if diff := cmp.Diff(want, otlptest.Of(t, data.Dictionary, made[0])); diff != "" {
				t.Errorf("samples (- local file, + collector):\n%s", diff)
			}
		}
	}
	if !maps.Equal(via, map[string]bool{"grpc": true, "http": true}) {
		t.Errorf("profiles came via %v", via)
	}
	t.Logf("%d different stacks with labels, %d samples each way", len(want), sum(want))
}

// written reads the collector's file: messages, each after its length.
func written(t *testing.T, name string) []*profiles.ProfilesData {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []*profiles.ProfilesData
	for len(content) >= 4 {
		size := binary.BigEndian.Uint32(content)
		content = content[4:]
		if uint64(size) > uint64(len(content)) {
			t.Fatalf("a message of %d bytes in %d", size, len(content))
		}
		data := &profiles.ProfilesData{}
		if err := proto.Unmarshal(content[:size], data); err != nil {
			t.Fatal(err)
		}
		all, content = append(all, data), content[size:]
	}
	return all
}

func sum(of otlptest.Sums) (total int64) {
	for _, v := range of {
		total += v
	}
	return total
}
