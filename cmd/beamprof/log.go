package main

import (
	"errors"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

const (
	defaultLogLevel  = "info"
	defaultLogFormat = "console"
)

// logFlags returns the flags that the program and each command have.
func logFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Value: defaultLogLevel, Usage: "least `LEVEL` to log: debug, info, warn, error"},
		&cli.StringFlag{Name: "log-format", Value: defaultLogFormat, Usage: "`FORMAT` of the log on stderr: console, json"},
	}
}

// logOption returns what was given for a flag that stands at several levels of
// the command line; the innermost counts.
func logOption(c *cli.Context, name string) string {
	for _, level := range c.Lineage() {
		for _, set := range level.LocalFlagNames() {
			if set == name {
				return level.String(name)
			}
		}
	}
	return c.String(name)
}

// logger writes messages to stderr.
type logger struct {
	zerolog.Logger
	out   io.Writer
	lines bool // all that goes to out must be lines of the log
}

func newLogger(out io.Writer) *logger {
	l := &logger{out: out}
	l.Logger = l.console().Level(zerolog.InfoLevel)
	return l
}

// configure applies the flags.
func (l *logger) configure(level, format string) error {
	levels := map[string]zerolog.Level{"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel, "warn": zerolog.WarnLevel, "error": zerolog.ErrorLevel}
	least, ok := levels[level]
	if !ok {
		return usagef("invalid value %q for --log-level: choose debug, info, warn or error", level)
	}
	switch format {
	case "console":
		l.Logger = l.console().Level(least)
	case "json":
		l.Logger = zerolog.New(l.out).With().Timestamp().Logger().Level(least)
		l.lines = true
	default:
		return usagef("invalid value %q for --log-format: choose console or json", format)
	}
	return nil
}

// console returns a logger whose lines read like those of other programs.
func (l *logger) console() zerolog.Logger {
	_, tty := terminal(l.out)
	marks := map[string]string{"debug": " debug:", "warn": " " + paint(tty, "33", "warning:"), "error": " " + paint(tty, "1;31", "error:")}
	return zerolog.New(zerolog.ConsoleWriter{
		Out:        l.out,
		NoColor:    !tty || !colorAllowed(),
		PartsOrder: []string{zerolog.LevelFieldName, zerolog.MessageFieldName},
		FormatLevel: func(level any) string {
			name, _ := level.(string)
			return "beamprof:" + marks[name]
		},
		FormatMessage: func(message any) string { text, _ := message.(string); return text },
	})
}

// failure logs why the program ends, and where to read on.
func (l *logger) failure(err error) {
	var usage *usageError
	var code *codeError
	l.Error().Msg(err.Error())
	switch {
	case errors.As(err, &usage):
		l.Info().Msg(usage.hint())
	case exitCode(err) == exitNotPermitted && !errors.As(err, &code):
		l.Info().Msg("see what this host allows: beamprof doctor")
	}
}

func paint(tty bool, code, s string) string {
	if !tty || !colorAllowed() {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// colorAllowed: see https://no-color.org.
func colorAllowed() bool { return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" }
