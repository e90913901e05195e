package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/profiles/text"
)

func (a *app) psCommand() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "lists the running Erlang VMs and whether they can be profiled",
		UsageText: "beamprof ps [options]",
		Description: "Schedulers are counted as normal+dirty CPU+dirty I/O.\n\n" +
			"Example:\n   sudo beamprof ps",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return a.ps()
		},
	}
}

func (a *app) ps() error {
	found, err := a.system.List()
	if err != nil {
		return err
	}
	if len(found) == 0 {
		a.log.Info().Msg("no beam.smp runs on this host, or none that can be seen from here")
		return nil
	}
	return a.print(func(w io.Writer) error {
		_, err := io.WriteString(w, table(found))
		return err
	})
}

// table lays VMs out, one a line.
func table(found []beam.Candidate) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PID\tNODE\tOTP\tERTS\tFLAVOR\tSCHEDULERS\tSUPPORTED")
	for _, c := range found {
		schedulers := "-"
		if c.NormalSchedulers > 0 {
			schedulers = fmt.Sprintf("%d+%d+%d", c.NormalSchedulers, c.DirtyCPUSchedulers, c.DirtyIOSchedulers)
		}
		supported := "yes"
		if c.Err != nil {
			supported = "no: " + text.Clean(c.Err.Error())
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", c.PID, orDash(c.Node), orDash(c.Release), orDash(c.ERTS), orDash(c.Flavor), schedulers, supported)
	}
	w.Flush()
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return text.Clean(s)
}
