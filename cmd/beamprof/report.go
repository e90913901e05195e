package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/diagnosis"
	"github.com/beamprof/beamprof/profiles/summary"
)

// Names of the files in the directory of a recording.
const (
	profileFile = "cpu.pb.gz"
	summaryFile = "summary.json"
)

func (a *app) reportCommand() *cli.Command {
	return &cli.Command{
		Name:      "report",
		Usage:     "prints the report of what was recorded",
		UsageText: "beamprof report [options] DIR|FILE...",
		ArgsUsage: "DIR|FILE...",
		Description: "A DIR is what record wrote; a FILE is its summary.json, wherever it is now. Several nodes of one\n" +
			"cluster that were recorded at the same time get one diagnosis: clients that hop from node to node,\n" +
			"and exchanges that only the other node's log tells of, are seen together.\n\n" +
			"Example:\n   beamprof report beamprof-VerneMQ@10.0.0.1-20260304T031244Z",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", Usage: "print all there is, and not what fits a screen"},
			&cli.BoolFlag{Name: "json", Usage: "print summary.json instead, or one document for several nodes"},
		},
		Action: func(c *cli.Context) error {
			switch {
			case !c.Args().Present():
				return usagef("a DIR or FILE is missing")
			case c.Bool("all") && c.Bool("json"):
				return usagef("--all and --json exclude each other")
			}
			return a.report(c.Args().Slice(), reportOptions{all: c.Bool("all"), json: c.Bool("json")})
		},
	}
}

type reportOptions struct{ all, json bool }

// report prints all that can be read, and then says what could not.
func (a *app) report(paths []string, o reportOptions) error {
	var errs []error
	var recordings []recording
	for _, path := range paths {
		r, err := readRecording(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		recordings = append(recordings, r)
	}
	if err := a.print(func(w io.Writer) error { return printRecordings(w, recordings, o) }); err != nil {
		return &outputError{err}
	}
	if err := errors.Join(errs...); err != nil {
		return &codeError{exitFailed, err}
	}
	return nil
}

// printRecordings prints recordings of different nodes as one cluster, and
// others one after the other.
func printRecordings(w io.Writer, recordings []recording, o reportOptions) error {
	style := styleFor(w)
	style.All = o.all
	var nodes []*summary.Summary
	var profiles []string
	for _, r := range recordings {
		nodes, profiles = append(nodes, r.summary), append(profiles, r.profile)
	}
	if summary.Joinable(nodes) {
		cluster := summary.Join(nodes)
		rules, differ := rulesOf(nodes)
		cluster.Diagnosis = diagnosis.Of(nodes, rules)
		if differ {
			cluster.Warnings = append(cluster.Warnings, "the nodes were recorded with different rules: the diagnosis goes by those of the first, "+rules.Name)
		}
		if o.json {
			return cluster.Write(w)
		}
		return cluster.Report(w, style, profiles)
	}
	for i, r := range recordings {
		if o.json {
			if _, err := w.Write(r.json); err != nil {
				return err
			}
			continue
		}
		if i > 0 {
			if _, err := fmt.Fprintln(w); err != nil {
				return err
			}
		}
		if err := r.summary.Report(w, style, r.profile); err != nil {
			return err
		}
	}
	return nil
}

// rulesOf returns what the rules that the first node was recorded with say of
// causes, and whether another node's say something else. A recording has them
// with it, since they may be the user's.
func rulesOf(nodes []*summary.Summary) (rules *attribution.Rules, differ bool) {
	for _, n := range nodes {
		causes := slices.DeleteFunc(slices.Clone(n.Causes), func(c attribution.Cause) bool { return !c.Whole() })
		if rules == nil {
			rules = &attribution.Rules{Name: n.Rules, Causes: causes}
		}
		differ = differ || !reflect.DeepEqual(rules.Causes, causes)
	}
	return rules, differ
}

// recording is what there is of a recording.
type recording struct {
	summary *summary.Summary
	json    []byte
	profile string // path of the CPU profile beside it; empty if there is none
}

func readRecording(path string) (recording, error) {
	info, err := os.Stat(path)
	if err != nil {
		return recording{}, err
	}
	file := path
	if info.IsDir() {
		file = filepath.Join(path, summaryFile)
	}
	f, err := os.Open(file)
	if err != nil {
		return recording{}, err
	}
	defer f.Close()
	var r recording
	var content bytes.Buffer
	if r.summary, err = summary.Read(io.TeeReader(f, &content)); err != nil {
		remedy := "name the directory that record wrote, or its " + summaryFile
		if bytes.HasPrefix(content.Bytes(), []byte{0x1f, 0x8b}) {
			remedy = "a profile is read with: go tool pprof -http=localhost:8081 " + file
		}
		return recording{}, fmt.Errorf("%s: %w (%s)", file, err, remedy)
	}
	r.json = content.Bytes()
	profile := filepath.Join(filepath.Dir(file), profileFile)
	if info, err := os.Stat(profile); err == nil && info.Mode().IsRegular() {
		r.profile = profile
	}
	return r, nil
}
