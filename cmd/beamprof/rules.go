package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

func (a *app) rulesCommand() *cli.Command {
	list := &cli.Command{
		Name: "list", Usage: "lists the built-in rule sets", UsageText: "beamprof rules list",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return a.listRules()
		},
	}
	show := &cli.Command{
		Name: "show", Usage: "prints a built-in rule set, to read or as the start of your own", UsageText: "beamprof rules show NAME",
		Action: func(c *cli.Context) error { return a.showRules(c.Args().Slice()) },
	}
	check := &cli.Command{
		Name: "check", Usage: "checks rule files", UsageText: "beamprof rules check FILE...",
		Description: "Says what is wrong and where: FILE:LINE:COLUMN: message. Rules that can never decide count, too.",
		Action:      func(c *cli.Context) error { return a.checkRules(c.Args().Slice()) },
	}
	return &cli.Command{
		Name: "rules", Usage: "lists, shows and checks the rules by which CPU time is attributed to workloads",
		UsageText: "beamprof rules list | show NAME | check FILE...",
		Description: "docs/rules.md describes the format.\n\n" +
			"Example:\n   beamprof rules show vernemq > mine.yaml\n   beamprof rules check mine.yaml\n   sudo beamprof record --rules mine.yaml",
		Subcommands: []*cli.Command{list, show, check},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("unknown command %q: rules has list, show and check", c.Args().First())
			}
			return usagef("rules needs one of list, show NAME and check FILE")
		},
	}
}

func (a *app) listRules() error {
	return a.print(func(w io.Writer) error {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NAME\tRULES\tFOR\tWORKLOADS")
		for _, name := range attribution.Names() {
			rules, _ := attribution.Builtin(name)
			var workloads []string
			for _, w := range rules.Workloads {
				workloads = append(workloads, w.Name)
			}
			fmt.Fprintf(table, "%s\t%d\t%s\t%s\n", name, len(rules.Rules), rules.About, strings.Join(workloads, " "))
		}
		return table.Flush()
	})
}

func (a *app) showRules(names []string) error {
	if len(names) != 1 {
		return usagef("show needs one NAME: %s", strings.Join(attribution.Names(), ", "))
	}
	source, ok := attribution.Source(names[0])
	if !ok {
		return usagef("no built-in rules %q: there are %s", text.Clean(names[0]), strings.Join(attribution.Names(), ", "))
	}
	return a.print(func(w io.Writer) error {
		_, err := w.Write(source)
		return err
	})
}

// checkRules prints what is wrong on stdout, as compilers' users expect it to be
// found by their editors, and fails if anything is.
func (a *app) checkRules(paths []string) error {
	if len(paths) == 0 {
		return usagef("check needs a FILE")
	}
	wrong := 0
	for _, path := range paths {
		rules, err := readRules(path)
		var problems []attribution.Problem
		var invalid *attribution.Error
		switch {
		case errors.As(err, &invalid):
			problems = invalid.Problems
		case err != nil:
			return err
		default:
			problems = rules.Problems()
		}
		wrong += len(problems)
		err = a.print(func(w io.Writer) error {
			for _, p := range problems {
				if _, err := fmt.Fprintln(w, text.Clean(p.String())); err != nil {
					return err
				}
			}
			if len(problems) > 0 {
				return nil
			}
			_, err := fmt.Fprintf(w, "%s: ok: %d rules, %d workloads\n", text.Clean(path), len(rules.Rules), len(rules.Workloads))
			return err
		})
		if err != nil {
			return &outputError{err}
		}
	}
	if wrong > 0 {
		return &codeError{exitFailed, fmt.Errorf("the rules have problems: %d", wrong)}
	}
	return nil
}

// maxRules bounds the size of a rule file.
const maxRules = 1 << 20

func readRules(path string) (*attribution.Rules, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRules+1))
	if err != nil {
		return nil, err
	}
	return attribution.Parse(path, data)
}

// findRules returns the rules that --rules names: a built-in set, or a file.
func findRules(name string) (*attribution.Rules, error) {
	if slices.Contains(attribution.Names(), name) {
		rules, _ := attribution.Builtin(name)
		return rules, nil
	}
	rules, err := readRules(name)
	switch {
	case errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(name, "./"):
		return nil, usagef("no built-in rules %q and no such file: there are %s", text.Clean(name), strings.Join(attribution.Names(), ", "))
	case err != nil:
		return nil, &codeError{exitUsage, fmt.Errorf("--rules: %w", err)}
	}
	return rules, nil
}
