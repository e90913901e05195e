// Package testbed runs the two-node Erlang system of this directory from Go
// tests and benchmarks: README.md describes the system, its loads and its
// truths. It is a thin layer over the program run, which does all the work.
package testbed

import (
	"bufio"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed run vm.args node load native
var sources embed.FS

// Options says how the nodes are started; the zero value is the default of everything.
type Options struct {
	Schedulers int           // of each node; 0 is 2
	BusyWait   string        // erl's +sbwt; empty is the VM's default
	Flags      []string      // more emulator flags
	TLS        bool          // an MQTT listener with TLS besides
	DistTLS    bool          // Erlang distribution over TLS
	LogFormat  string        // lager or logger; empty is lager
	Build      string        // a directory to compile into, which is kept and used again; empty is one of its own
	MaxLife    time.Duration // after so long everything stops by itself; 0 is 15 minutes
}

func (o Options) arguments() []string {
	arguments := []string{}
	add := func(present bool, words ...string) {
		if present {
			arguments = append(arguments, words...)
		}
	}
	add(o.Schedulers > 0, "--schedulers", strconv.Itoa(o.Schedulers))
	add(o.BusyWait != "", "--sbwt", o.BusyWait)
	add(len(o.Flags) > 0, "--flags", strings.Join(o.Flags, " "))
	add(o.TLS, "--tls")
	add(o.DistTLS, "--dist-tls")
	add(o.LogFormat != "", "--log-format", o.LogFormat)
	add(o.Build != "", "--build", o.Build)
	add(o.MaxLife > 0, "--max-seconds", strconv.Itoa(int(o.MaxLife/time.Second)))
	return arguments
}

// Node is a running node.
type Node struct {
	Name             string   `json:"name"`
	PID              int      `json:"pid"` // of its beam.smp
	OTPRelease       string   `json:"otp_release"`
	Schedulers       int      `json:"schedulers"`
	MQTTPort         int      `json:"mqtt_port"`
	MQTTSPort        int      `json:"mqtts_port"` // 0 without TLS
	ClusterPort      int      `json:"cluster_port"`
	DistributionPort int      `json:"distribution_port"`
	Logs             []string `json:"logs"` // paths: console.log, error.log
}

// Cluster is a running testbed.
type Cluster struct {
	Nodes     [2]Node // exchanges of the loads ae and repair are served by the first and pulled by the second
	directory string
}

// Start compiles the system and starts both nodes. Stop must be called in the end.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	directory, err := os.MkdirTemp("", "testbed-go.")
	if err != nil {
		return nil, err
	}
	c := &Cluster{directory: directory}
	if err := c.start(ctx, options); err != nil {
		return nil, errors.Join(fmt.Errorf("start the testbed: %w", err), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context, options Options) error {
	if err := extract(filepath.Join(c.directory, "src")); err != nil {
		return err
	}
	arguments := append([]string{"start", "--state", c.state()}, options.arguments()...)
	return c.run(ctx, arguments, func(line []byte) error {
		var event struct {
			Nodes []Node `json:"nodes"`
		}
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if copy(c.Nodes[:], event.Nodes) != len(c.Nodes) {
			return fmt.Errorf("%d nodes started, want %d", len(event.Nodes), len(c.Nodes))
		}
		return nil
	})
}

func (c *Cluster) state() string { return filepath.Join(c.directory, "state") }

// Stop ends both nodes and removes all files. It may be called more than once.
func (c *Cluster) Stop() error {
	var err error
	if _, missing := os.Stat(filepath.Join(c.state(), "testbed")); missing == nil {
		err = c.run(context.Background(), []string{"stop", "--state", c.state()}, nil)
	}
	return errors.Join(err, os.RemoveAll(c.directory))
}

// extract writes the embedded sources into a new directory.
func extract(directory string) error {
	return fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(directory, path)
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := sources.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

// run runs the program and hands each line of its output to handle. When the
// context ends, the program is told to stop, and stops what it started.
func (c *Cluster) run(ctx context.Context, arguments []string, handle func(line []byte) error) error {
	command := exec.CommandContext(ctx, "sh", append([]string{filepath.Join(c.directory, "src", "run")}, arguments...)...)
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 30 * time.Second
	var messages strings.Builder
	command.Stderr = &messages
	output, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 64<<20)
	var failed error
	for lines.Scan() {
		if handle != nil && failed == nil {
			failed = handle(lines.Bytes())
		}
	}
	failed = errors.Join(failed, lines.Err())
	if err := command.Wait(); err != nil {
		return fmt.Errorf("testbed/run %s: %w: %s", strings.Join(arguments, " "), err, strings.TrimSpace(messages.String()))
	}
	return failed
}
