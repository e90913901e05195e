package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// binary is the path of the program, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "beamprof-test-*")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "beamprof")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v0.0.0-test", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, output)
		return 1
	}
	return m.Run()
}

// execute runs the program in an empty directory.
func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	command := exec.Command(binary, args...)
	command.Dir = t.TempDir()
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	var exit *exec.ExitError
	if err := command.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(command.Dir); len(entries) > 0 {
		t.Errorf("%q left %v behind", args, entries)
	}
	return out.String(), errOut.String(), command.ProcessState.ExitCode()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("differs from %s (-want +got):\n%s", file, diff)
	}
}

func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		code   int
		stderr string // part of it
	}{
		{"--help", 0, ""},
		{"help", 0, ""},
		{"help record", 0, ""},
		{"--version", 0, ""},
		{"version", 0, ""},
		{"ps --log-level error", 0, ""},
		{"record --help", 0, ""},
		{"report --help", 0, ""},
		{"report DIR --help", 0, ""},

		{"", 2, "a command is missing"},
		{"nonsense", 2, `unknown command "nonsense"`},
		{"nonsense --help", 2, `unknown command "nonsense"`},
		{"help nonsense", 2, `unknown command "nonsense"`},
		{"top", 2, `unknown command "top"`},
		{"--nonsense", 2, "not defined: -nonsense"},
		{"--log-level loud ps", 2, `"loud" for --log-level`},
		{"ps --log-format xml", 2, `"xml" for --log-format`},
		{"ps --nonsense", 2, "not defined: -nonsense"},
		{"ps extra", 2, `unexpected argument "extra"`},
		{"ps help", 2, `unexpected argument "help"`},
		{"version extra", 2, `unexpected argument "extra"`},
		{"doctor --pid x", 2, `"x" for flag -pid`},
		{"doctor --pid 0", 2, "process ids start at 1"},
		{"doctor extra", 2, `unexpected argument "extra"`},
		{"record extra", 2, `unexpected argument "extra"`},
		{"record --pid 1 extra --duration 1s", 2, `unexpected argument "extra"`},
		{"record --pid", 2, "flag needs an argument"},
		{"record --pid -4", 2, "process ids start at 1"},
		{"record --pid 1 --node a@b", 2, "exclude each other"},
		{"record --node=", 2, "--node is empty"},
		{"record --output=", 2, "--output is empty"},
		{"record --duration 30", 2, `"30" for flag -duration`},
		{"record --duration 0s", 2, "must be above 0"},
		{"record --duration -1s", 2, "must be above 0"},
		{"record --frequency 0", 2, "choose 1 to 4999"},
		{"record --frequency 5000", 2, "choose 1 to 4999"},
		{"record --frequency 99.5", 2, `"99.5" for flag -frequency`},
		{"record --rules nonsense", 2, `no built-in rules "nonsense"`},
		{"record --rules /nonexistent.yaml", 2, "no such file"},
		{"record --callers nobody", 2, "choose frames, labels or none"},
		{"record --distribution all", 2, "choose full, sampled, totals or off"},
		{"rules", 2, "rules needs one of"},
		{"rules nonsense", 2, "unknown command"},
		{"rules show", 2, "needs one NAME"},
		{"rules show nonsense", 2, "no built-in rules"},
		{"rules check", 2, "needs a FILE"},
		{"rules check /nonexistent.yaml", 1, "no such file"},
		{"report", 2, "DIR or FILE is missing"},
		{"report --nonsense DIR", 2, "not defined: -nonsense"},
		{"report DIR --nonsense", 2, "not defined: -nonsense"},

		{"report /nonexistent", 1, "no such file"},
		{"report " + file, 1, "not a beamprof.summary/1 file"},
		{"report help", 1, "no such file"},

		{"record --pid 999999999", 3, "no such process"},
		{"record --node nobody@nowhere", 3, `none is node "nobody@nowhere"`},
		{"doctor --pid 999999999", 3, "record would not work fully"},
	} {
		_, stderr, code := execute(t, strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) || (code == 0) != (stderr == "") {
			t.Errorf("beamprof %s: exit code %d, want %d and %q on stderr:\n%s", c.args, code, c.code, c.stderr, stderr)
		}
	}
}

func TestNotAnErlangVM(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: without root nothing can be said of other programs")
	}
	_, stderr, code := execute(t, "record", "--pid", fmt.Sprint(os.Getpid()))
	if code != 3 || !strings.Contains(stderr, "not an Erlang VM") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

func TestNotPermitted(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root can become somebody without permission")
	}
	victim := exec.Command("sleep", "600")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { victim.Process.Kill(); victim.Wait() })
	for _, args := range [][]string{{"record", "--pid", fmt.Sprint(victim.Process.Pid)}, {"doctor", "--pid", fmt.Sprint(victim.Process.Pid)}} {
		command := exec.Command(publicCopy(t), args...)
		command.Dir = "/"
		command.SysProcAttr = asNobody()
		output, _ := command.CombinedOutput()
		if code := command.ProcessState.ExitCode(); code != exitNotPermitted {
			t.Errorf("%v: exit code %d:\n%s", args, code, output)
		}
		if !strings.Contains(string(output), "run as root") {
			t.Errorf("%v: no remedy:\n%s", args, output)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, name := range []string{"", "ps", "doctor", "record", "report", "version"} {
		stdout, _, _ := execute(t, strings.Fields(name+" --help")...)
		if !strings.Contains(stdout, "Example:") || !strings.Contains(stdout, "beamprof "+name) {
			t.Errorf("%s --help has no example:\n%s", name, stdout)
		}
		for _, flag := range []string{"--log-level", "--log-format"} {
			if !strings.Contains(stdout, flag) {
				t.Errorf("%s has no %s", name, flag)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, _ := execute(t, "version")
	if !strings.HasPrefix(stdout, "beamprof v0.0.0-test linux/") {
		t.Errorf("version prints %q", stdout)
	}
}

func TestLogFormat(t *testing.T) {
	for _, args := range []string{"--log-format json report /nonexistent", "report --log-format json /nonexistent", "report /nonexistent --log-format=json"} {
		_, stderr, _ := execute(t, strings.Fields(args)...)
		if !strings.HasPrefix(stderr, `{"level":"error","time":"`) {
			t.Errorf("%s: not JSON: %s", args, stderr)
		}
	}
	if _, stderr, _ := execute(t, "report", "/nonexistent"); stderr != "beamprof: error: stat /nonexistent: no such file or directory\n" {
		t.Errorf("console: %q", stderr)
	}
}

func TestLogLevel(t *testing.T) {
	for _, args := range []string{"--log-level error record x", "record --log-level error --frequency 0", "--log-level info record --log-level error --frequency 0"} {
		_, stderr, _ := execute(t, strings.Fields(args)...)
		if !strings.Contains(stderr, "error:") || strings.Contains(stderr, "see:") {
			t.Errorf("%s: %s", args, stderr)
		}
	}
	if _, stderr, _ := execute(t, "record", "x"); !strings.Contains(stderr, "see: beamprof record --help") {
		t.Errorf("at the usual level: %s", stderr)
	}
}

func TestPermute(t *testing.T) {
	a := &app{log: newLogger(&bytes.Buffer{})}
	for _, c := range [][2]string{
		{"beamprof", "beamprof"},
		{"beamprof report DIR --json", "beamprof report --json DIR"},
		{"beamprof report A --json B", "beamprof report --json A B"},
		{"beamprof report A -- --json", "beamprof report A -- --json"},
		{"beamprof report A --log-level info B", "beamprof report --log-level info A B"},
		{"beamprof report A --log-level=info B", "beamprof report --log-level=info A B"},
		{"beamprof report - A", "beamprof report - A"},
		{"beamprof record x --pid 1", "beamprof record --pid 1 x"},
		{"beamprof record x --pid", "beamprof record --pid x"},
		{"beamprof --log-level info report A --json", "beamprof --log-level info report --json A"},
		{"beamprof --log-level report A --json", "beamprof --log-level report A --json"},
		{"beamprof nonsense A --json", "beamprof nonsense A --json"},
		{"beamprof -- report A --json", "beamprof -- report A --json"},
	} {
		if got := strings.Join(permute(a.cli(), strings.Fields(c[0])), " "); got != c[1] {
			t.Errorf("%s becomes %s, want %s", c[0], got, c[1])
		}
	}
}
