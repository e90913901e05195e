package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/connections"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/host"
	"github.com/beamprof/beamprof/collector/logs"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/sampletest"
)

// invented is a host with an invented VM.
type invented struct {
	vms       []beam.Candidate
	listErr   error
	attachErr error
	openErr   error
	hostCheck []host.Check
	layout    []beam.Check
	messages  error
	run       func(ctx context.Context, handle func(*collector.Sample)) error
	stats     sampler.Stats
	opened    int
}

var brokerInfo = beam.Info{
	PID: 4711, Executable: sampletest.Executable, Node: "broker@10.0.0.1", Release: "25", ERTS: "13.1.5", Flavor: "jit",
	NormalSchedulers: 2, DirtyCPUSchedulers: 2, DirtyIOSchedulers: 10,
}

// broker returns a host with one VM, whose samples are those of sampletest.
func broker() *invented {
	return &invented{
		vms:       []beam.Candidate{{Info: brokerInfo}},
		hostCheck: []host.Check{{Name: "kernel", Detail: "Linux 5.4.0"}},
		layout:    []beam.Check{{Name: "process table", OK: true, Detail: "51 of 51 processes"}},
		run: func(_ context.Context, handle func(*collector.Sample)) error {
			for _, s := range sampletest.Broker() {
				handle(s)
			}
			return nil
		},
		stats: sampler.Stats{Start: sampletest.Start, Duration: 30 * time.Second, Frequency: 99, Samples: 1000, ProcessSeconds: 10.07},
	}
}

func (i *invented) List() ([]beam.Candidate, error) { return i.vms, i.listErr }
func (i *invented) Checks() []host.Check            { return i.hostCheck }
func (i *invented) Kernel() string                  { return "5.4.0-216-generic" }

func (i *invented) Attach(pid int) (target, error) {
	if i.attachErr != nil {
		return nil, i.attachErr
	}
	for _, c := range i.vms {
		if c.PID == pid {
			return inventedTarget{i, c.Info}, nil
		}
	}
	return nil, beam.ErrNoProcess
}

type inventedTarget struct {
	*invented
	info beam.Info
}

func (t inventedTarget) Info() beam.Info      { return t.info }
func (t inventedTarget) Checks() []beam.Check { return t.layout }
func (t inventedTarget) CheckMessages() error { return t.messages }
func (t inventedTarget) Modules() []string    { return []string{"kernel", "broker_db"} }
func (t inventedTarget) Close() error         { return nil }

func (t inventedTarget) Open(sampler.Options) (session, error) {
	t.opened++
	if t.openErr != nil {
		return nil, t.openErr
	}
	return inventedSession{t.invented}, nil
}

func (t inventedTarget) OpenDistribution(distribution.Options) (distributionSession, error) {
	return inventedDistribution{}, nil
}

func (t inventedTarget) OpenLogs(logs.Options) (logSession, error) { return nil, logs.ErrNoLog }

func (t inventedTarget) OpenConnections(connections.Detail) (connectionSession, error) {
	return inventedConnections{}, nil
}

// inventedConnections has no listener.
type inventedConnections struct{}

func (inventedConnections) Run(ctx context.Context, _ func(connections.Event)) error {
	<-ctx.Done()
	return nil
}
func (inventedConnections) Totals() ([]connections.Totals, error) { return nil, nil }
func (inventedConnections) Stats() connections.Stats {
	return connections.Stats{Detail: connections.Full}
}
func (inventedConnections) Close() error { return nil }

// inventedDistribution has a peer with nothing said.
type inventedDistribution struct{}

func (inventedDistribution) Run(ctx context.Context, _ func(*distribution.Message)) error {
	<-ctx.Done()
	return nil
}
func (inventedDistribution) Totals() ([]distribution.Total, error) { return nil, nil }
func (inventedDistribution) Stats() distribution.Stats             { return distribution.Stats{Every: 1} }
func (inventedDistribution) Close() error                          { return nil }

type inventedSession struct{ *invented }

func (s inventedSession) Run(ctx context.Context, handle func(*collector.Sample)) error {
	return s.run(ctx, handle)
}
func (s inventedSession) Stats() sampler.Stats { return s.stats }
func (s inventedSession) Close() error         { return nil }

// runIn runs a command line on an invented host.
func runIn(t *testing.T, i *invented, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	t.Setenv("LC_ALL", "C.UTF-8")
	var out, errOut bytes.Buffer
	code = run(t.Context(), append([]string{"beamprof"}, args...), environment{system: i, stdout: &out, stderr: &errOut})
	return out.String(), errOut.String(), code
}

// names returns what is in a directory, hidden files too; nil if it does not exist.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	found := []string{}
	for _, e := range entries {
		found = append(found, e.Name())
	}
	return found
}

// tinyDisk mounts a file system of the given size.
func tinyDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("SKIP: only root can mount a file system that is full")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIP: no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func asNobody() *syscall.SysProcAttr {
	const nobody = 65534
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
}

// publicCopy copies the program to where everyone may execute it.
func publicCopy(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "beamprof-public-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "beamprof")
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// pseudoTerminal returns both ends of a new terminal of 120 columns. What is
// written to tty is to be read from control.
func pseudoTerminal(t *testing.T) (control, tty *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIP: no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { control.Close() })
	fd := int(control.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIP: no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { tty.Close() })
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 120}); err != nil {
		t.Fatal(err)
	}
	return control, tty
}

// onTerminal returns what do writes to a terminal.
func onTerminal(t *testing.T, do func(tty *os.File)) string {
	t.Helper()
	control, tty := pseudoTerminal(t)
	read := make(chan string)
	go func() {
		var b bytes.Buffer
		io.Copy(&b, control) // ends with an error when the other end is closed
		read <- b.String()
	}()
	do(tty)
	tty.Close()
	select {
	case s := <-read:
		return s
	case <-time.After(30 * time.Second):
		t.Fatal("the terminal's output did not end")
		return ""
	}
}
