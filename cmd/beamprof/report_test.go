package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
