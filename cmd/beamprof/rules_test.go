package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/beamprof/beamprof/profiles/attribution"
)

func TestRulesList(t *testing.T) {
	stdout, stderr, code := runIn(t, broker(), "rules", "list")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	file := filepath.Join("testdata", "rules.txt")
	if *update {
		if err := os.WriteFile(file, []byte(stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), stdout); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

// TestRulesShowAndCheck: what is shown of each set can be checked and used.
func TestRulesShowAndCheck(t *testing.T) {
	for _, name := range attribution.Names() {
		source, _, code := runIn(t, broker(), "rules", "show", name)
		file := filepath.Join(t.TempDir(), name+".yaml")
		if err := os.WriteFile(file, []byte(source), 0o644); err != nil || code != 0 {
			t.Fatal(err, code)
		}
		stdout, stderr, code := runIn(t, broker(), "rules", "check", file)
		if code != 0 || !strings.Contains(stdout, ": ok: ") {
			t.Errorf("%s: exit code %d: %s%s", name, code, stdout, stderr)
		}
		for _, rules := range []string{name, file} {
			dir := filepath.Join(t.TempDir(), "out")
			if stdout, stderr, code := runIn(t, broker(), "record", "--rules", rules, "--output", dir); code != 0 || !strings.Contains(stdout, "by the rules "+name) {
				t.Errorf("--rules %s: exit code %d: %s%s", rules, code, stdout, stderr)
			}
		}
	}
}

func TestRulesCheckSaysWhere(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	for _, c := range []struct{ text, want string }{
		{"name: x\nworkloads: {a: ''}\nrules:\n  - {when: {}, then: b}\n", ":4:22: no workload \"b\""},
		{"name: x\nworkloads: {a: ''}\nrules:\n  - {when: {}, then: a}\n  - {when: {state: gc}, then: a}\n", ":5:5: this rule is never reached"},
	} {
		if err := os.WriteFile(file, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		stdout, stderr, code := runIn(t, broker(), "rules", "check", file)
		if code != 1 || !strings.Contains(stdout, file+c.want) || !strings.Contains(stderr, "problems: 1") {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	}
}
