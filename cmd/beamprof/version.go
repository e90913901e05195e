package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker.
var version string

// versionText returns the version this program was built as; builds without
// the linker's flag have the one of the Go module.
func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

func (a *app) versionCommand() *cli.Command {
	return &cli.Command{
		Name:        "version",
		Usage:       "prints the program's version",
		UsageText:   "beamprof version [options]",
		Description: "Example:\n   beamprof version",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			return a.print(func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "beamprof %s %s/%s %s\n", versionText(), runtime.GOOS, runtime.GOARCH, runtime.Version())
				return err
			})
		},
	}
}
