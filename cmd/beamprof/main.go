// Command beamprof profiles a running Erlang VM from the host.
//
// One file per command: ps.go, doctor.go, record.go, report.go, version.go.
// Each parses its flags into options and then runs. What the commands need of
// the host and of VMs is in system.go, so that tests can do without either.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args, environment{
		system: machine{},
		stdout: os.Stdout,
		stderr: os.Stderr,
	}))
}
