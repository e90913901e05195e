package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/profiles/attribution"
	churn "github.com/beamprof/beamprof/profiles/connections"
	"github.com/beamprof/beamprof/profiles/pprof"
	"github.com/beamprof/beamprof/profiles/summary"
	"github.com/beamprof/beamprof/profiles/text"
)

// recordOptions are the flags of record.
type recordOptions struct {
	pid       int
	node      string
	duration  time.Duration
	frequency int
	output    string
	rules     *attribution.Rules // nil: chosen by what the node runs
	callers   pprof.Callers

	distribution string   // off, or of distributionModes
	logs         []string // files; none: those that are found
	connections  string   // off, or of connectionsModes
	clientIDs    bool
}

func (a *app) recordCommand() *cli.Command {
	return &cli.Command{
		Name:      "record",
		Usage:     "profiles a running Erlang VM for a while and prints the report",
		UsageText: "beamprof record [options]",
		Description: "With one beam.smp on the host, --pid and --node may be left out. Ctrl-C ends early and still\n" +
			"writes; a second one aborts. DIR gets " + profileFile + ", " + distributionFile + " and\n" + connectionsFile + ", for go tool pprof, and " + summaryFile + ".\n\n" +
			"Example:\n   sudo beamprof record --node VerneMQ@10.0.0.1 --duration 30s",
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "pid", Usage: "profile the VM that is process `N`", DefaultText: "the only one there is"},
			&cli.StringFlag{Name: "node", Usage: "profile the VM that is the Erlang node `NAME`, with or without @host"},
			&cli.DurationFlag{Name: "duration", Value: 30 * time.Second, Usage: "profile for `TIME`"},
			&cli.IntFlag{Name: "frequency", Value: 99, Usage: fmt.Sprintf("take `N` samples per second and CPU, 1 to %d", sampler.MaxFrequency)},
			&cli.StringFlag{Name: "rules", Usage: "attribute by the built-in rules `NAME`, or by those in a file (default: what fits the node; see beamprof rules)"},
			&cli.StringFlag{Name: "callers", Value: "frames", Usage: "show who asked as `frames` below the one that was asked, as labels, or none"},
			&cli.StringFlag{Name: "distribution", Value: "sampled", Usage: "look into the traffic with other nodes: `sampled` into as many messages as cost the VM 1 % of a core; full into all, up to 10 %; totals counts bytes, without a probe in the VM; or off"},
			&cli.StringSliceFlag{Name: "log", Usage: "read the VM's log from `FILE`; may be given more than once (default: the log files it has open)"},
			&cli.StringFlag{Name: "connections", Value: "full", Usage: "look at connections to the VM's listeners: `full` also at what MQTT clients say first; totals; or off"},
			&cli.BoolFlag{Name: "client-ids", Usage: "write MQTT client ids into " + connectionsFile + " as they are, not hashed"},
			&cli.StringFlag{Name: "output", Usage: "write into `DIR`, new or empty (default: beamprof-<node or pid>-<time>)"},
		},
		Action: func(c *cli.Context) error {
			options, err := parseRecord(c)
			if err != nil {
				return err
			}
			return a.record(c.Context, options)
		},
	}
}

// callersModes are the values of --callers.
var callersModes = map[string]pprof.Callers{"frames": pprof.CallersFrames, "labels": pprof.CallersLabels, "none": pprof.CallersNone}

func parseRecord(c *cli.Context) (recordOptions, error) {
	o := recordOptions{
		pid: c.Int("pid"), node: c.String("node"), duration: c.Duration("duration"),
		frequency: c.Int("frequency"), output: c.String("output"),
	}
	switch {
	case c.Args().Present():
		return o, noArguments(c)
	case c.IsSet("pid") && c.IsSet("node"):
		return o, usagef("--pid and --node exclude each other")
	case c.IsSet("pid") && o.pid < 1:
		return o, usagef("invalid value %d for --pid: process ids start at 1", o.pid)
	case c.IsSet("node") && o.node == "":
		return o, usagef("the value of --node is empty")
	case o.duration <= 0:
		return o, usagef("invalid value %v for --duration: it must be above 0", o.duration)
	case o.frequency < 1 || o.frequency > sampler.MaxFrequency:
		return o, usagef("invalid value %d for --frequency: choose 1 to %d", o.frequency, sampler.MaxFrequency)
	case c.IsSet("output") && o.output == "":
		return o, usagef("the value of --output is empty")
	}
	var known bool
	if o.callers, known = callersModes[c.String("callers")]; !known {
		return o, usagef("invalid value %q for --callers: choose frames, labels or none", c.String("callers"))
	}
	o.logs = c.StringSlice("log")
	o.distribution = c.String("distribution")
	if _, known := distributionModes[o.distribution]; !known && o.distribution != distributionOff {
		return o, usagef("invalid value %q for --distribution: choose full, sampled, totals or off", o.distribution)
	}
	o.connections, o.clientIDs = c.String("connections"), c.Bool("client-ids")
	if _, known := connectionsModes[o.connections]; !known && o.connections != connectionsOff {
		return o, usagef("invalid value %q for --connections: choose full, totals or off", o.connections)
	}
	if !c.IsSet("rules") {
		return o, nil
	}
	var err error
	o.rules, err = findRules(c.String("rules"))
	return o, err
}

// record attaches, samples, writes and reports.
func (a *app) record(ctx context.Context, o recordOptions) error {
	if os.Getenv("GOMAXPROCS") == "" {
		// With more, whatever wakes up wakes threads that look for work, which
		// costs as much as the samples.
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	useHugePages()
	defer collectLess()()
	pid, err := choose(a.system, o.pid, o.node)
	if err != nil {
		return err
	}
	t, err := a.system.Attach(pid)
	if err != nil {
		return err
	}
	defer t.Close()
	path := o.output
	if path == "" {
		path = defaultOutput(t.Info(), time.Now())
	}
	output, err := prepareOutput(path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible(ctx, oneInterrupt, func() {
		output.abort()
		a.log.Error().Msg("aborted: what was not written yet is lost")
		os.Exit(exitFailed)
	})
	defer stop()
	if err := a.recordInto(ctx, t, o, output); err != nil {
		output.abort()
		return err
	}
	return nil
}

func (a *app) recordInto(ctx context.Context, t target, o recordOptions, output *outputDir) error {
	s, err := t.Open(sampler.Options{Frequency: o.frequency})
	if err != nil {
		return err
	}
	defer s.Close()
	rules := o.rules
	if rules == nil {
		rules = attribution.Choose(t.Modules())
	}
	r := newRecorder(t.Info(), a.system.Kernel(), o, rules)
	if o.distribution != distributionOff {
		d, err := t.OpenDistribution(distribution.Options{Detail: distributionModes[o.distribution]})
		if err != nil {
			r.noDistribution = err
		} else {
			defer d.Close()
			r.distribution = recordDistribution(ctx, d, rules)
			if o.distribution != "totals" {
				r.cpu.AwaitMessages()
			}
			defer r.distribution.end()
		}
	}
	if err := r.startLogs(ctx, t, o.logs, rules); err != nil {
		return err
	}
	if r.logs != nil {
		defer r.logs.session.Close()
		defer r.logs.end()
	}
	if o.connections != connectionsOff {
		c, err := t.OpenConnections(connectionsModes[o.connections])
		if err != nil {
			r.noConnections = err
		} else {
			defer c.Close()
			r.connections = recordConnections(ctx, c, churn.Options{ClientIDs: o.clientIDs})
			defer r.connections.end()
		}
	}
	if err := a.sample(ctx, s, o, r); err != nil {
		return err
	}
	if r.logs != nil {
		r.logs.end()
	}
	if r.distribution != nil {
		r.distribution.end()
	}
	if r.connections != nil {
		r.connections.end()
	}
	return a.finish(r, s.Stats(), output)
}

// sample runs the session for as long as asked for. An early end is no error
// if there are samples.
func (a *app) sample(ctx context.Context, s session, o recordOptions, r *recorder) error {
	a.log.Info().Msgf("profiling %s for %v at %d Hz; Ctrl-C ends early", describe(r.info), o.duration, o.frequency)
	bounded, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	p := startProgress(a.log, o.duration)
	defer p.stop()
	err := s.Run(bounded, func(sample *collector.Sample) {
		r.cpu.Add(sample)
		p.samples.Store(r.cpu.Samples())
	})
	p.stop()
	switch {
	case err == nil && errors.Is(context.Cause(ctx), errInterrupted):
		r.ended = summary.EndedInterrupted
		a.log.Info().Msg("ended early: writing what was sampled")
	case errors.Is(err, sampler.ErrTargetExited) && r.cpu.Samples() > 0:
		r.ended = summary.EndedTargetExited
		a.log.Warn().Msgf("%s exited after %.1f s: what was sampled until then is kept", describe(r.info), s.Stats().Duration.Seconds())
	case err != nil && r.cpu.Samples() > 0:
		r.failure = err
		a.log.Warn().Msg("the sampling failed: what was sampled until then is kept")
	case err != nil:
		return fmt.Errorf("profile %s: %w", describe(r.info), err)
	}
	return nil
}

// finish writes the files and prints the report, whether or not they could be written.
func (a *app) finish(r *recorder, stats sampler.Stats, output *outputDir) error {
	files, condensed, err := r.files(stats)
	if err != nil {
		return err
	}
	written := output.write(files)
	profile := ""
	if written == nil {
		profile = filepath.Join(output.path, profileFile)
	} else if kept, err := rescue(files); err == nil {
		profile = filepath.Join(kept, profileFile)
		a.log.Warn().Msgf("kept in %s instead", kept)
	}
	printed := a.print(func(w io.Writer) error { return condensed.Report(w, styleFor(w), profile) })
	if printed != nil {
		printed = &outputError{printed}
	}
	if written == nil {
		a.log.Info().Msgf("written: %s, and %s beside it", profile, summaryFile)
	}
	return errors.Join(r.failure, written, printed)
}

// rescue writes the files into a new temporary directory, when they could not be
// written where they should be, and returns it.
func rescue(files []outputFile) (string, error) {
	path, err := os.MkdirTemp("", "beamprof-")
	if err != nil {
		return "", err
	}
	output, err := prepareOutput(path)
	if err == nil {
		err = output.write(files)
	}
	if err != nil {
		os.RemoveAll(path)
		return "", err
	}
	return path, nil
}

// describe names a VM in messages.
func describe(info beam.Info) string {
	if node := nodeName(info); node != "" {
		return fmt.Sprintf("%s (pid %d)", text.Clean(node), info.PID)
	}
	return fmt.Sprintf("the VM with pid %d", info.PID)
}

// defaultOutput returns beamprof-<node or pid>-<time>.
func defaultOutput(info beam.Info, now time.Time) string {
	name := nodeName(info)
	if name == "" {
		name = fmt.Sprint(info.PID)
	}
	return "beamprof-" + fileName(name) + "-" + now.UTC().Format("20060102T150405Z")
}

// fileName keeps what is harmless in the name of a file, wherever it came from.
func fileName(s string) string {
	const maxLength = 100
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("@._-", r):
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), maxLength)]
}
