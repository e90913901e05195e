package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/sampletest"
	"github.com/beamprof/beamprof/profiles/summary"
)

// readBack checks the two files of a recording.
func readBack(t *testing.T, dir string) (*profile.Profile, *summary.Summary) {
	t.Helper()
	if found := names(t, dir); !slices.Equal(found, []string{profileFile, summaryFile}) {
		t.Fatalf("%s has %v", dir, found)
	}
	f, err := os.Open(filepath.Join(dir, profileFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Error(err)
	}
	r, err := readRecording(dir)
	if err != nil {
		t.Fatal(err)
	}
	return p, r.summary
}

func TestRecord(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	stdout, stderr, code := runIn(t, broker(), "record", "--output", dir)
	if code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	p, s := readBack(t, dir)
	if p.DurationNanos != 30e9 || p.TimeNanos != sampletest.Start.UnixNano() || s.CPU.Samples != 1000 || s.Window.Ended != "" {
		t.Errorf("profile: %v, summary: %+v", p.Comments, s)
	}
	if p.Mapping[0].File != sampletest.Executable {
		t.Errorf("the profile is of %s", p.Mapping[0].File)
	}
	golden(t, "record.txt", strings.ReplaceAll(stdout, dir, "DIR"))
	if strings.Contains(stderr, "\r") || !strings.Contains(stderr, "profiling broker@10.0.0.1 (pid 4711) for 30s at 99 Hz") {
		t.Errorf("stderr: %q", stderr)
	}

	again, _, code := runIn(t, broker(), "report", dir)
	if code != 0 || again != stdout {
		t.Errorf("report prints something else:\n%s", again)
	}
}

func TestRecordDefaultOutput(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, stderr, code := runIn(t, broker(), "record"); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	found := names(t, ".")
	if len(found) != 1 || !strings.HasPrefix(found[0], "beamprof-broker@10.0.0.1-2") {
		t.Errorf("wrote %v", found)
	}
	now := time.Date(2026, 3, 4, 3, 12, 44, 0, time.UTC)
	for node, want := range map[string]string{
		"a@b.example.org":         "beamprof-a@b.example.org-20260304T031244Z",
		"nonode@nohost":           "beamprof-7-20260304T031244Z",
		"":                        "beamprof-7-20260304T031244Z",
		"../../x\x1b y":           "beamprof-.._.._x__y-20260304T031244Z",
		strings.Repeat("ö@", 500): "beamprof-" + strings.Repeat("_@", 50) + "-20260304T031244Z",
	} {
		if got := defaultOutput(beam.Info{PID: 7, Node: node}, now); got != want {
			t.Errorf("%q: %s", node, got)
		}
	}
}

// TestRecordInterrupted: the first signal ends the sampling early, and all is written.
func TestRecordInterrupted(t *testing.T) {
	for _, signal := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		host := broker()
		host.run = func(ctx context.Context, handle func(*collector.Sample)) error {
			handle(sampletest.Broker()[0])
			if err := unix.Kill(os.Getpid(), signal); err != nil {
				t.Error(err)
			}
			<-ctx.Done()
			return nil
		}
		dir := filepath.Join(t.TempDir(), "out")
		stdout, stderr, code := runIn(t, host, "record", "--duration", "10m", "--output", dir)
		if code != 0 || !strings.Contains(stdout, "Ended    early, by the user") {
			t.Errorf("%v: exit code %d: %s%s", signal, code, stdout, stderr)
		}
		if _, s := readBack(t, dir); s.Window.Ended != summary.EndedInterrupted || s.CPU.Samples != 1 {
			t.Errorf("%v: %+v", signal, s)
		}
	}
}

func TestSecondInterruptAborts(t *testing.T) {
	interrupt := func() {
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	aborted := make(chan bool)
	ctx, stop := interruptible(t.Context(), 0, func() { close(aborted) })
	defer stop()
	interrupt()
	waitFor(t, ctx.Done(), "the first one has no effect")
	if !errors.Is(context.Cause(ctx), errInterrupted) {
		t.Errorf("cause: %v", context.Cause(ctx))
	}
	interrupt()
	waitFor(t, aborted, "the second one has no effect")
}

// TestInterruptedTwiceAtOnce: what a process group is sent may reach us twice.
func TestInterruptedTwiceAtOnce(t *testing.T) {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT)
	defer signal.Stop(signals)
	ctx, stop := interruptible(t.Context(), time.Hour, func() { t.Error("aborted") })
	defer stop()
	for range 2 {
		if err := unix.Kill(os.Getpid(), unix.SIGINT); err != nil {
			t.Fatal(err)
		}
		waitFor(t, signals, "no signal")
	}
	waitFor(t, ctx.Done(), "no effect")
}

func waitFor[T any](t *testing.T, event <-chan T, otherwise string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(30 * time.Second):
		t.Fatal(otherwise)
	}
}

func TestRecordTargetExits(t *testing.T) {
	host := broker()
	host.stats.Duration = 4200 * time.Millisecond
	host.run = func(_ context.Context, handle func(*collector.Sample)) error {
		handle(sampletest.Broker()[0])
		return fmt.Errorf("%w", sampler.ErrTargetExited)
	}
	dir := filepath.Join(t.TempDir(), "out")
	stdout, stderr, code := runIn(t, host, "record", "--output", dir)
	if code != 0 || !strings.Contains(stderr, "broker@10.0.0.1 (pid 4711) exited after 4.2 s") || !strings.Contains(stdout, "because the VM ended") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	if _, s := readBack(t, dir); s.Window.Ended != summary.EndedTargetExited {
		t.Errorf("%+v", s)
	}
}

// TestRecordNothingSampled: where there is nothing to write nothing is.
func TestRecordNothingSampled(t *testing.T) {
	for _, err := range []error{sampler.ErrTargetExited, errors.New("the ring broke")} {
		host := broker()
		host.run = func(context.Context, func(*collector.Sample)) error { return err }
		dir := filepath.Join(t.TempDir(), "out")
		stdout, stderr, code := runIn(t, host, "record", "--output", dir)
		if code != 1 || stdout != "" || !strings.Contains(stderr, err.Error()) || names(t, dir) != nil {
			t.Errorf("%v: exit code %d, %v: %s%s", err, code, names(t, dir), stdout, stderr)
		}
	}
}

// TestRecordIdle: a VM that used no CPU time is no failure.
func TestRecordIdle(t *testing.T) {
	host := broker()
	host.run = func(context.Context, func(*collector.Sample)) error { return nil }
	host.stats.ProcessSeconds = 0
	dir := filepath.Join(t.TempDir(), "out")
	stdout, _, code := runIn(t, host, "record", "--output", dir)
	if code != 0 || !strings.Contains(stdout, "No samples") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	readBack(t, dir)
}

// TestRecordFailsMidway: what was sampled is written, and the failure is one.
func TestRecordFailsMidway(t *testing.T) {
	host := broker()
	host.run = func(_ context.Context, handle func(*collector.Sample)) error {
		handle(sampletest.Broker()[0])
		return errors.New("the ring broke")
	}
	dir := filepath.Join(t.TempDir(), "out")
	stdout, stderr, code := runIn(t, host, "record", "--output", dir)
	if code != 1 || !strings.Contains(stderr, "error: the ring broke") || !strings.Contains(stdout, "the ring broke") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	readBack(t, dir)
}

// TestRecordDiskFull: nothing half written, the report all the same, and what was
// sampled kept elsewhere.
func TestRecordDiskFull(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	disk := tinyDisk(t, "4k") // a page: room for no file once the directory has an entry
	dir := filepath.Join(disk, "out")
	stdout, stderr, code := runIn(t, broker(), "record", "--output", dir)
	if code != 1 || !strings.Contains(stderr, "no space left on device: make room there or choose another --output") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout, "WHAT THE CPU DID") {
		t.Errorf("report:\n%s", stdout)
	}
	if found := names(t, disk); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
	kept := names(t, os.Getenv("TMPDIR"))
	if len(kept) != 1 || !strings.Contains(stderr, "kept in "+filepath.Join(os.Getenv("TMPDIR"), kept[0])) {
		t.Fatalf("kept %q: %s", kept, stderr)
	}
	readBack(t, filepath.Join(os.Getenv("TMPDIR"), kept[0]))
}

// TestRecordDiskFullEverywhere: there is still the report.
func TestRecordDiskFullEverywhere(t *testing.T) {
	disk := tinyDisk(t, "4k")
	t.Setenv("TMPDIR", disk)
	stdout, stderr, code := runIn(t, broker(), "record", "--output", filepath.Join(disk, "out"))
	if code != 1 || !strings.Contains(stderr, "no space left on device: make room there or choose another --output") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if !strings.Contains(stdout, "WHAT THE CPU DID") || strings.Contains(stdout, "DIG FURTHER") {
		t.Errorf("report:\n%s", stdout)
	}
	if found := names(t, disk); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

// TestRecordOutputIsCheckedFirst: before anything is sampled.
func TestRecordOutputIsCheckedFirst(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{full, filepath.Join(full, "mine"), "/proc/nowhere"} {
		host := broker()
		stdout, stderr, code := runIn(t, host, "record", "--output", dir)
		if code != 1 || host.opened != 0 || stdout != "" || !strings.Contains(stderr, "--output") {
			t.Errorf("%s: exit code %d, opened %d times: %s%s", dir, code, host.opened, stdout, stderr)
		}
	}
	if found := names(t, full); !slices.Equal(found, []string{"mine"}) {
		t.Errorf("left behind: %v", found)
	}
}

func TestRecordCannotAttach(t *testing.T) {
	for err, want := range map[error]int{
		fmt.Errorf("attach: %w", beam.ErrNoProcess):   3,
		fmt.Errorf("attach: %w", beam.ErrNotBEAM):     3,
		fmt.Errorf("attach: %w", beam.ErrStarting):    3,
		fmt.Errorf("attach: %w", beam.ErrUnsupported): 3,
		fmt.Errorf("attach: %w", beam.ErrPermission):  4,
		fmt.Errorf("attach: %w", unix.EPERM):          4,
		errors.New("something else"):                  1,
	} {
		for _, opening := range []bool{false, true} {
			host := broker()
			if opening {
				host.openErr = err
			} else {
				host.attachErr = err
			}
			dir := filepath.Join(t.TempDir(), "out")
			_, stderr, code := runIn(t, host, "record", "--output", dir)
			if code != want || !strings.Contains(stderr, err.Error()) || strings.Contains(stderr, "doctor") != (want == 4) {
				t.Errorf("%v: exit code %d: %s", err, code, stderr)
			}
			if found := names(t, dir); found != nil {
				t.Errorf("%v: left behind: %v", err, found)
			}
		}
	}
}

func TestRecordChoosesTheVM(t *testing.T) {
	one := beam.Candidate{Info: beam.Info{PID: 10, Node: "a@x"}}
	other := beam.Candidate{Info: beam.Info{PID: 20, Node: "a@y"}}
	third := beam.Candidate{Info: beam.Info{PID: 30, Node: "nonode@nohost"}}
	hidden := beam.Candidate{Info: beam.Info{PID: 40}, Err: beam.ErrPermission}
	starting := beam.Candidate{Info: beam.Info{PID: 50}, Err: beam.ErrStarting}
	for _, c := range []struct {
		vms    []beam.Candidate
		args   string
		pid    int
		code   int
		stderr string
	}{
		{[]beam.Candidate{one}, "", 10, 0, ""},
		{[]beam.Candidate{one, other}, "--pid 20", 20, 0, ""},
		{[]beam.Candidate{one, other}, "--node a@y", 20, 0, ""},
		{[]beam.Candidate{one, third}, "--node a", 10, 0, ""},
		{[]beam.Candidate{one, other}, "", 0, 2, "2 Erlang VMs fit: choose one with --pid\nPID"},
		{[]beam.Candidate{one, other, third}, "--node a", 0, 2, "2 Erlang VMs fit"},
		{nil, "", 0, 3, "no beam.smp runs"},
		{[]beam.Candidate{one}, "--node b", 0, 3, `none is node "b"`},
		{[]beam.Candidate{hidden}, "--node b", 0, 4, "not all can be looked into"},
		{[]beam.Candidate{starting}, "--node b", 0, 3, "the names of 1 could not be read"},
	} {
		host := broker()
		host.vms = c.vms
		dir := filepath.Join(t.TempDir(), "out")
		_, stderr, code := runIn(t, host, append([]string{"record", "--output", dir}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(stderr, c.stderr) {
			t.Errorf("%v %s: exit code %d: %s", c.vms, c.args, code, stderr)
			continue
		}
		if code == 0 {
			if _, s := readBack(t, dir); s.Target.PID != c.pid {
				t.Errorf("%v %s: profiled %d", c.vms, c.args, s.Target.PID)
			}
		}
	}
}

func TestRecordSaysWhatWentWrong(t *testing.T) {
	host := broker()
	host.stats.KernelNames = errors.New("kptr_restrict is 2")
	host.stats.Malformed = 7
	host.stats.CodeErrors = 3
	host.stats.Lost = 100
	dir := filepath.Join(t.TempDir(), "out")
	stdout, _, _ := runIn(t, host, "record", "--output", dir)
	stdout = strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{"kernel functions have no names: kptr_restrict is 2", "7 of the lost samples arrived", "could not be read 3 times", "107 lost"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no word of %q:\n%s", want, stdout)
		}
	}
}

// TestRecordOnATerminal: progress on stderr, colour and bars on stdout.
func TestRecordOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	t.Setenv("LC_ALL", "C.UTF-8")
	record := func(tty *os.File) {
		host := broker()
		sample := host.run
		host.run = func(ctx context.Context, handle func(*collector.Sample)) error {
			sample(ctx, handle)
			<-ctx.Done()
			return nil
		}
		args := []string{"beamprof", "record", "--duration", "500ms", "--output", filepath.Join(t.TempDir(), "out")}
		if code := run(t.Context(), args, environment{system: host, stdout: tty, stderr: tty}); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	shown := onTerminal(t, record)
	for _, want := range []string{"1000 samples", "\x1b[1mWHAT THE CPU DID\x1b[0m", "█"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in %q", want, shown)
		}
	}
	if shown := onTerminal(t, func(tty *os.File) {
		log := newLogger(tty)
		if err := log.configure("info", "json"); err != nil {
			t.Error(err)
		}
		startProgress(log, time.Minute).stop()
	}); shown != "" {
		t.Errorf("progress among lines of JSON: %q", shown)
	}
	t.Setenv("NO_COLOR", "1")
	if shown := onTerminal(t, record); strings.Contains(shown, "\x1b[1m") || strings.Contains(shown, "\x1b[3") {
		t.Errorf("colour in spite of NO_COLOR: %q", shown)
	}
}

func TestProgressIsQuietElsewhere(t *testing.T) {
	var b bytes.Buffer
	p := startProgress(newLogger(&b), time.Minute)
	p.stop()
	p.stop()
	if b.Len() > 0 {
		t.Errorf("wrote %q", &b)
	}
}

// TestLogsThatAreNamed: files that --log names must be there, and of use.
func TestLogsThatAreNamed(t *testing.T) {
	for _, c := range []struct{ rules, want string }{{"otp", "look for nothing in logs"}, {"vernemq", "--log: no log file is open"}} {
		_, stderr, code := runIn(t, broker(), "record", "--rules", c.rules, "--log", "/nonexistent/a,b.log", "--output", filepath.Join(t.TempDir(), "out"))
		if code != exitUsage || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: exit code %d: %s", c.rules, code, stderr)
		}
	}
}
