package main

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/summary"
)

// recorded makes a recording of the invented VM and returns its directory.
func recorded(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "out")
	if _, stderr, code := runIn(t, broker(), "record", "--output", dir); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	return dir
}

func TestReportJSON(t *testing.T) {
	dir := recorded(t)
	want, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--json", dir}, {dir, "--json"}, {"--json", filepath.Join(dir, summaryFile)}} {
		stdout, _, code := runIn(t, broker(), append([]string{"report"}, args...)...)
		if code != 0 || stdout != string(want) {
			t.Errorf("%v: exit code %d:\n%s", args, code, stdout)
		}
	}
	var content map[string]any
	if err := json.Unmarshal(want, &content); err != nil || content["schema"] != "beamprof.summary/1" {
		t.Errorf("%v, %v", content["schema"], err)
	}
}

func TestReportOfAFileAlone(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(recorded(t), summaryFile))
	if err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(t.TempDir(), "moved.json")
	if err := os.WriteFile(alone, content, 0o644); err != nil {
		t.Fatal(err)
	}
	stdout, _, code := runIn(t, broker(), "report", alone)
	if code != 0 || !strings.HasPrefix(stdout, "broker@10.0.0.1\n") || strings.Contains(stdout, "DIG FURTHER") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
}

// TestReportOfSeveral: all that can be read is printed, and what cannot is an error.
func TestReportOfSeveral(t *testing.T) {
	dir := recorded(t)
	stdout, stderr, code := runIn(t, broker(), "report", dir, "/nonexistent", dir, filepath.Join(dir, profileFile))
	if code != 1 || strings.Count(stdout, "broker@10.0.0.1\n") != 2 || !strings.Contains(stdout, "\n\nbroker@") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	for _, want := range []string{"/nonexistent: no such file", "go tool pprof -http=localhost:8081"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in %s", want, stderr)
		}
	}
}

func TestReportOfAnEmptyDirectory(t *testing.T) {
	_, stderr, code := runIn(t, broker(), "report", t.TempDir())
	if code != 1 || !strings.Contains(stderr, summaryFile+": no such file") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// recordedCluster writes the summaries of two nodes, of which one fetches from the
// other, recorded with rules in which an exchange must have so much of the work.
func recordedCluster(t *testing.T, shares ...float64) (files []string) {
	t.Helper()
	for i, node := range []string{"a@h", "b@h"} {
		s, err := summary.Read(strings.NewReader(string(must(os.ReadFile(filepath.Join(recorded(t), summaryFile))))))
		if err != nil {
			t.Fatal(err)
		}
		rules, _ := attribution.Builtin("vernemq")
		cause := *rules.Cause(attribution.InconsistentState)
		cause.Thresholds = maps.Clone(cause.Thresholds)
		cause.Thresholds[attribution.Share] = attribution.Threshold{At: shares[i], Because: "the user says so"}
		s.Target.Node, s.Rules, s.Causes, s.CPU.Samples = node, "mine", []attribution.Cause{cause}, 1000
		s.Workloads = []summary.Workload{{Name: "ae_exchange", Seconds: 9, Share: 0.9, WithoutVM: 0.97}}
		s.Logs = []summary.Log{}
		if i == 1 { // only the node that fetches writes about exchanges
			s.Logs = []summary.Log{{Signal: "empty_sync", Count: 90, InWindow: 90, Values: []summary.LogValues{{Fields: map[string]string{"peer": "'a@h'"}, Count: 90, InWindow: 90}}}}
		}
		file := filepath.Join(t.TempDir(), node+".json")
		f, err := os.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(s.Write(f), f.Close()); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// TestReportOfACluster: several nodes get one diagnosis, of all their evidence.
func TestReportOfACluster(t *testing.T) {
	files := recordedCluster(t, 0.5, 0.5)
	stdout, stderr, code := runIn(t, broker(), append([]string{"report"}, files...)...)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	for _, want := range []string{"A cluster: 2 nodes", "likely    inconsistent cluster state", "a@h: 97% of the work is ae_exchange", "b@h from a@h"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	stdout, _, code = runIn(t, broker(), append([]string{"report", "--json"}, files...)...)
	var c summary.Cluster
	if err := json.Unmarshal([]byte(stdout), &c); err != nil || code != 0 || len(c.Nodes) != 2 || c.Diagnosis[0].Verdict != summary.VerdictLikely {
		t.Errorf("%v, exit code %d:\n%s", err, code, stdout)
	}
	if _, _, code := runIn(t, broker(), "report", "--json", "--all", files[0]); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

// TestReportByTheRulesOfTheRecording: a user's own thresholds are part of a recording.
func TestReportByTheRulesOfTheRecording(t *testing.T) {
	const warning = "recorded with different rules"
	for _, c := range []struct {
		shares  [2]float64
		verdict string
		warns   bool
	}{{[2]float64{0.5, 0.5}, "likely", false}, {[2]float64{0.99, 0.99}, "possible", false}, {[2]float64{0.99, 0.5}, "possible", true}, {[2]float64{0.5, 0.99}, "likely", true}} {
		stdout, stderr, code := runIn(t, broker(), append([]string{"report"}, recordedCluster(t, c.shares[:]...)...)...)
		if code != 0 || !strings.Contains(stdout, "\n  "+c.verdict+" ") || strings.Contains(stdout, warning) != c.warns {
			t.Errorf("%v: exit code %d: %s\n%s", c.shares, code, stderr, stdout)
		}
	}
}

func must(content []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return content
}
