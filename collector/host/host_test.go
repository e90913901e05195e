package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// fixture makes a directory with the given files.
func fixture(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRelease(t *testing.T) {
	for text, want := range map[string]Status{
		"5.4.0-216-generic": OK, "5.4": OK, "6.18.44-fc-v657": OK, "10.0-rc1": OK,
		"5.3.18": Failed, "4.19.0-27-amd64": Failed, "": Failed, "linux": Failed,
	} {
		if c := parseRelease(text).check(); c.Status != want || (c.Remedy == "") != (want == OK) {
			t.Errorf("%q: %+v", text, c)
		}
	}
	if Release() == "" {
		t.Error("the running kernel has no release")
	}
}

func TestCapabilities(t *testing.T) {
	const ptrace, admin, bpf, perfmon, resource = 1 << unix.CAP_SYS_PTRACE, 1 << unix.CAP_SYS_ADMIN, 1 << unix.CAP_BPF, 1 << unix.CAP_PERFMON, 1 << unix.CAP_SYS_RESOURCE
	for _, c := range []struct {
		kernel     string
		privileges privileges
		want       string
	}{
		{"6.1", ^privileges(0), ""},
		{"6.1", admin | ptrace, ""},
		{"6.1", bpf | perfmon | ptrace, ""},
		{"6.1", bpf | ptrace, "CAP_PERFMON"},
		{"6.1", perfmon | ptrace, "CAP_BPF"},
		{"6.1", admin, "CAP_SYS_PTRACE"},
		{"6.1", 0, "CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE"},
		{"5.4", admin | ptrace | resource, ""},
		{"5.4", bpf | perfmon | ptrace | resource, "CAP_SYS_ADMIN"},
	} {
		if got := strings.Join(c.privileges.missing(parseRelease(c.kernel)), ", "); got != c.want {
			t.Errorf("Linux %s, %x: missing %q, want %q", c.kernel, c.privileges, got, c.want)
		}
	}
}

func TestLockdown(t *testing.T) {
	for content, want := range map[string]Status{
		"[none] integrity confidentiality\n": OK, "none [integrity] confidentiality\n": OK, "none integrity [confidentiality]\n": Failed, "": OK,
	} {
		if c := lockdown(fixture(t, map[string]string{"kernel/security/lockdown": content})); c.Status != want {
			t.Errorf("%q: %+v", content, c)
		}
	}
	if c := lockdown(t.TempDir()); c.Status != OK {
		t.Errorf("without the module: %+v", c)
	}
}

func TestSampleRate(t *testing.T) {
	for content, want := range map[string]Status{"100000\n": OK, "4999": OK, "1000\n": Note, "50\n": Failed, "x": Failed} {
		if c := sampleRate(fixture(t, map[string]string{"sys/kernel/perf_event_max_sample_rate": content})); c.Status != want {
			t.Errorf("%q: %+v", content, c)
		}
	}
}

func TestPIDNamespace(t *testing.T) {
	for name, want := range map[string]Status{initialPIDNamespace: OK, "pid:[4026532201]": Failed} {
		proc := fixture(t, map[string]string{"self/ns/x": ""})
		if err := os.Symlink(name, filepath.Join(proc, "self/ns/pid")); err != nil {
			t.Fatal(err)
		}
		if c := pidNamespace(proc); c.Status != want {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	empty := t.TempDir()
	for _, c := range []struct {
		check Check
		want  Status
	}{
		{btf(empty), Note}, {uprobes(empty), Note}, {paranoid(empty, 0), Failed}, {pidNamespace(empty), Failed}, {sampleRate(empty), Failed},
	} {
		if c.check.Status != c.want || c.check.Detail == "" {
			t.Errorf("%+v", c.check)
		}
	}
}

// TestChecksHere: what tests of the sampler can do here, the checks say is possible.
func TestChecksHere(t *testing.T) {
	testsupport.RequireBPF(t)
	for _, c := range Checks() {
		t.Logf("%s: %v %s", c.Name, c.Status, c.Detail)
		if c.Status >= Failed && c.Name != "pid namespace" {
			t.Errorf("%s: %s (%s)", c.Name, c.Detail, c.Remedy)
		}
		if c.Status >= Failed && c.Remedy == "" {
			t.Errorf("%s: no remedy", c.Name)
		}
	}
}
