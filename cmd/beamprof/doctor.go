package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/host"
	"github.com/beamprof/beamprof/profiles/text"
)

func (a *app) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:      "doctor",
		Usage:     "says what this host and its Erlang VMs allow, and what to do where that is not all",
		UsageText: "beamprof doctor [options]",
		Description: "Without --pid every running VM is checked. The exit code is 0 only if record would work fully.\n\n" +
			"Example:\n   sudo beamprof doctor --pid 4711",
		Flags: []cli.Flag{&cli.IntFlag{Name: "pid", Usage: "check only the VM that is process `N`", DefaultText: "all"}},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.IsSet("pid") && c.Int("pid") < 1 {
				return usagef("invalid value %d for --pid: process ids start at 1", c.Int("pid"))
			}
			return a.doctor(c.Int("pid"))
		},
	}
}

// section is a part of the doctor's findings.
type section struct {
	title  string
	checks []host.Check
}

func (a *app) doctor(pid int) error {
	sections := []section{{"HOST", a.system.Checks()}}
	vms, errs := a.examine(pid)
	sections = append(sections, vms...)
	code := worst(sections, errs)
	err := a.print(func(w io.Writer) error {
		_, err := io.WriteString(w, findings(sections, code == exitOK, a.paintStatus()))
		return err
	})
	if err != nil || code == exitOK {
		return err
	}
	return &codeError{code, errors.New("record would not work fully: see the lines marked FAILED or DENIED")}
}

// examine checks the VM with the given pid, or each one there is.
func (a *app) examine(pid int) ([]section, []error) {
	pids := []int{pid}
	if pid == 0 {
		found, err := a.system.List()
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("%w: no beam.smp runs on this host, or none that can be seen from here", errNoVM)
		}
		if err != nil {
			return []section{{"VM", []host.Check{failedCheck("Erlang VMs", err)}}}, []error{err}
		}
		pids = nil
		for _, c := range found {
			pids = append(pids, c.PID)
		}
	}
	var sections []section
	var errs []error
	for _, pid := range pids {
		s, err := a.examineVM(pid)
		sections = append(sections, s)
		errs = append(errs, err)
	}
	return sections, errs
}

func (a *app) examineVM(pid int) (section, error) {
	s := section{title: fmt.Sprintf("VM %d", pid)}
	t, err := a.system.Attach(pid)
	if err != nil {
		s.checks = []host.Check{failedCheck("attach", err)}
		return s, err
	}
	defer t.Close()
	info := t.Info()
	s.title += "  " + text.Clean(info.Node)
	s.checks = []host.Check{{Name: "release", Detail: fmt.Sprintf("OTP %s, erts %s, %s", info.Release, info.ERTS, info.Flavor)}}
	for _, c := range t.Checks() {
		s.checks = append(s.checks, fromLayout(c))
	}
	if err := t.CheckMessages(); err != nil {
		s.checks = append(s.checks, host.Check{Name: "messages", Status: host.Note, Detail: fmt.Sprintf("between nodes are not looked into, their bytes are counted: %v", err)})
	}
	return s, nil
}

func fromLayout(c beam.Check) host.Check {
	check := host.Check{Name: c.Name, Detail: c.Detail}
	if !c.OK {
		check.Status, check.Remedy = host.Failed, c.Remedy
	}
	return check
}

// failedCheck is the check that stands for an error; that privileges are missing is
// said with its remedy.
func failedCheck(name string, err error) host.Check {
	c := host.Check{Name: name, Status: host.Failed, Detail: err.Error(), Remedy: "start it, or profile another: beamprof ps lists what runs"}
	switch {
	case exitCode(err) == exitNotPermitted:
		c.Status, c.Remedy = host.Denied, ""
	case errors.Is(err, beam.ErrStarting):
		c.Remedy = "try again when it has started"
	case errors.Is(err, beam.ErrUnsupported):
		c.Remedy = "profile a VM of a supported release: beamprof ps tells which are"
	}
	return c
}

// worst returns the exit code: missing privileges first, as without them
// nothing else is certain; then the VM; then all else.
func worst(sections []section, errs []error) int {
	failed, denied := false, false
	for _, s := range sections {
		for _, c := range s.checks {
			failed = failed || c.Status == host.Failed
			denied = denied || c.Status == host.Denied
		}
	}
	if denied {
		return exitNotPermitted
	}
	for _, err := range errs {
		if code := exitCode(err); code != exitOK {
			return code
		}
	}
	if failed {
		return exitFailed
	}
	return exitOK
}

// paintStatus returns how a status looks on stdout.
func (a *app) paintStatus() func(host.Status) string {
	_, tty := terminal(a.stdout)
	codes := map[host.Status]string{host.OK: "32", host.Note: "33", host.Failed: "1;31", host.Denied: "1;31"}
	return func(s host.Status) string { return paint(tty, codes[s], text.Pad(s.String(), 6)) }
}

// findings lays the checks out, one a line, a remedy below each that needs one.
func findings(sections []section, good bool, status func(host.Status) string) string {
	var b strings.Builder
	width := 0
	for _, s := range sections {
		for _, c := range s.checks {
			width = max(width, text.Width(c.Name))
		}
	}
	for i, s := range sections {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintln(&b, s.title)
		for _, c := range s.checks {
			fmt.Fprintf(&b, "  %s  %s  %s\n", status(c.Status), text.Pad(c.Name, width), text.Clean(c.Detail))
			if c.Remedy != "" {
				fmt.Fprintf(&b, "  %6s  %s  -> %s\n", "", text.Pad("", width), c.Remedy)
			}
		}
	}
	if good {
		b.WriteString("\nAll is well: record works fully.\n")
	}
	return b.String()
}
