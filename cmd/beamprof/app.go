package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

// environment is what commands work with.
type environment struct {
	system system
	stdout io.Writer
	stderr io.Writer
}

// app is one run of the program.
type app struct {
	environment
	log     *logger
	unknown string // command whose help was asked for and that does not exist
}

// run executes the command line and returns the exit code.
func run(ctx context.Context, args []string, env environment) int {
	a := &app{environment: env, log: newLogger(env.stderr)}
	c := a.cli()
	err := c.RunContext(ctx, permute(c, args))
	if err == nil && a.unknown != "" {
		err = usagef("unknown command %q", a.unknown)
	}
	if err != nil {
		a.log.failure(err)
	}
	return exitCode(err)
}

func (a *app) cli() *cli.App {
	c := &cli.App{
		Name:    "beamprof",
		Usage:   "tells what a running Erlang VM's CPU time is spent on, and for whom",
		Version: versionText(),
		Description: "beamprof samples a running beam.smp from the host with eBPF: no restart, no flag,\n" +
			"nothing loaded into the VM and nothing asked of it. It needs root, and Linux 5.4 or later.\n\n" +
			"Example:\n   sudo beamprof record --duration 30s",
		Commands:                  []*cli.Command{a.psCommand(), a.doctorCommand(), a.recordCommand(), a.reportCommand(), a.agentCommand(), a.configCommand(), a.rulesCommand(), a.versionCommand()},
		Flags:                     logFlags(),
		Writer:                    a.stdout,
		ErrWriter:                 a.stderr,
		OnUsageError:              onUsageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // run prints, and chooses the code
		DisableSliceFlagSeparator: true,                         // file names have commas
		CommandNotFound:           func(_ *cli.Context, name string) { a.unknown = name },
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return usagef("unknown command %q", c.Args().First())
			}
			return usagef("a command is missing")
		},
	}
	for _, command := range c.Commands {
		a.prepare(command)
	}
	return c
}

// prepare gives a command what all have.
func (a *app) prepare(command *cli.Command) {
	command.Flags = append(command.Flags, logFlags()...)
	command.OnUsageError = onUsageError
	command.HideHelpCommand = true // or "help" could not be the name of a DIR
	action := command.Action
	command.Action = func(c *cli.Context) error {
		if err := a.log.configure(logOption(c, "log-level"), logOption(c, "log-format")); err != nil {
			return inCommand(c, err)
		}
		return inCommand(c, action(c))
	}
}

func onUsageError(c *cli.Context, err error, _ bool) error {
	return inCommand(c, &usageError{message: err.Error()})
}

// inCommand tells a usage error which command's help to point to.
func inCommand(c *cli.Context, err error) error {
	var usage *usageError
	if errors.As(err, &usage) && c.Command != nil && c.Command.Name != c.App.Name {
		usage.command = c.Command.Name
	}
	return err
}

// noArguments refuses what stands behind a command's flags.
func noArguments(c *cli.Context) error {
	if c.Args().Present() {
		return usagef("unexpected argument %q", c.Args().First())
	}
	return nil
}

// permute moves a command's flags before its other arguments, so that both
// `report DIR --json` and `report --json DIR` work. What follows "--" stays.
func permute(c *cli.App, args []string) []string {
	at := commandIndex(c, args)
	if at < 0 {
		return args
	}
	takesValue := valueFlags(c.Command(args[at]).Flags)
	permuted := append([]string{}, args[:at+1]...)
	var rest []string
	for i := at + 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			return append(append(permuted, rest...), args[i:]...)
		case len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
		case arg == "--help" || arg == "-h":
			return append(permuted[:at+1], arg) // help is not about what else is there
		default:
			permuted = append(permuted, arg)
			if takesValue[strings.TrimLeft(arg, "-")] && i+1 < len(args) {
				i++
				permuted = append(permuted, args[i])
			}
		}
	}
	return append(permuted, rest...)
}

// commandIndex returns where in args a command's name is, -1 if nowhere.
func commandIndex(c *cli.App, args []string) int {
	takesValue := valueFlags(c.Flags)
	for i := 1; i < len(args); i++ {
		switch {
		case args[i] == "--":
			return -1
		case strings.HasPrefix(args[i], "-"):
			if takesValue[strings.TrimLeft(args[i], "-")] {
				i++
			}
		case c.Command(args[i]) != nil:
			return i
		default:
			return -1
		}
	}
	return -1
}

// valueFlags returns the names of the flags that need a value.
func valueFlags(flags []cli.Flag) map[string]bool {
	names := make(map[string]bool)
	for _, f := range flags {
		if _, isBool := f.(*cli.BoolFlag); isBool {
			continue
		}
		for _, name := range f.Names() {
			names[name] = true
		}
	}
	return names
}

// print writes a result to stdout.
func (a *app) print(write func(io.Writer) error) error {
	if err := write(a.stdout); err != nil {
		return fmt.Errorf("write to stdout: %w", err)
	}
	return nil
}

// terminal returns the file behind a writer, if it is a terminal.
func terminal(w io.Writer) (*os.File, bool) {
	f, ok := w.(*os.File)
	return f, ok && isTerminal(f)
}
