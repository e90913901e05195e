package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

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
		Description: "A DIR is what record wrote; a FILE is its summary.json, wherever it is now.\n\n" +
			"Example:\n   beamprof report beamprof-VerneMQ@10.0.0.1-20260304T031244Z",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print summary.json instead"}},
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return usagef("a DIR or FILE is missing")
			}
			return a.report(c.Args().Slice(), c.Bool("json"))
		},
	}
}

// report prints all that can be read, and then says what could not.
func (a *app) report(paths []string, asJSON bool) error {
	var errs []error
	printed := false
	for _, path := range paths {
		r, err := readRecording(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		err = a.print(func(w io.Writer) error {
			if asJSON {
				_, err := w.Write(r.json)
				return err
			}
			if printed {
				if _, err := fmt.Fprintln(w); err != nil {
					return err
				}
			}
			return r.summary.Report(w, styleFor(w), r.profile)
		})
		if err != nil {
			return &outputError{err}
		}
		printed = true
	}
	if err := errors.Join(errs...); err != nil {
		return &codeError{exitFailed, err}
	}
	return nil
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
