package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/agent"
)

func (a *app) agentCommand() *cli.Command {
	return &cli.Command{
		Name:      "agent",
		Usage:     "profiles the VMs of this host all the time, for back ends and scrapers",
		UsageText: "beamprof agent --config FILE [--check]",
		Description: "Finds the VMs that come and go, hands a profile of each to the sinks once a minute, and\n" +
			"answers go tool pprof, Prometheus and their like over HTTP. SIGHUP makes it read FILE again.\n" +
			"docs/agent.md describes FILE; beamprof config print shows all that can be in it.\n\n" +
			"Example:\n   sudo beamprof agent --config /etc/beamprof/agent.yaml",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Usage: "do what is in `FILE`"},
			&cli.BoolFlag{Name: "check", Usage: "only say whether FILE is right"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			path := c.String("config")
			if path == "" {
				return usagef("agent needs --config FILE")
			}
			if c.Bool("check") {
				return a.checkConfig(path)
			}
			return a.agent(c.Context, path)
		},
	}
}

func (a *app) checkConfig(path string) error {
	if _, err := agent.Load(path); err != nil {
		return &codeError{exitUsage, err}
	}
	return a.print(func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: ok\n", path)
		return err
	})
}

// agent runs until it is interrupted; a second interrupt ends it at once.
func (a *app) agent(ctx context.Context, path string) error {
	useHugePages()
	ctx, stop := interruptedBy(ctx, oneInterrupt, func() { os.Exit(exitFailed) }, stopSignals...)
	defer stop()
	return agent.Serve(ctx, path, agent.Options{Version: versionText(), Log: a.log.Logger})
}

func (a *app) configCommand() *cli.Command {
	// At both levels: see permute.
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Usage: "what is in `FILE` (default: what an empty file means)"}}
	show := &cli.Command{
		Name: "print", Usage: "prints the agent's configuration with all defaults", UsageText: "beamprof config print [--config FILE]",
		Description: "Secrets are not shown.\n\nExample:\n   beamprof config print > agent.yaml",
		Flags:       flags,
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			config := agent.Defaults()
			if path := logOption(c, "config"); path != "" {
				var err error
				if config, err = agent.Load(path); err != nil {
					return &codeError{exitUsage, err}
				}
			}
			return a.print(config.Write)
		},
	}
	return &cli.Command{
		Name: "config", Usage: "prints the agent's configuration", UsageText: "beamprof config print [--config FILE]",
		Description: "Example:\n   beamprof config print --config /etc/beamprof/agent.yaml",
		Flags:       flags,
		Subcommands: []*cli.Command{show},
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("unknown command %q: config has print", c.Args().First())
			}
			return usagef("config needs print")
		},
	}
}
