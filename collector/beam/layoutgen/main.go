// Command layoutgen writes the memory layout of one release of the Erlang
// emulator as a Go table for package beam, from the debug information of an
// emulator that was built with -g.
//
// # Adding a release
//
//  1. Build the emulator from the release's source package (for Debian: apt-get
//     source erlang), configured as the package configures it (debian/rules),
//     with "-g" added to CFLAGS. Only the emulator is needed:
//     ./configure ... CFLAGS='-g -O2 -fno-strict-aliasing' && make emulator.
//
//  2. If the release packs pids differently, add it to pidLayouts in pid.go.
//
//  3. Generate the table, run in the root of this repository:
//
//     go run ./collector/beam/layoutgen -binary .../bin/x86_64-pc-linux-gnu/beam.smp \
//     -release 25 -source "erlang 1:25.2.3+dfsg-1+deb12u4 (Debian 12), default configuration"
//
//  4. Add the variable it names to layouts in layout.go, and run the package's
//     tests with that release's erl in PATH.
//
// A field that the release renamed is reported: give its tag in layout.go the
// other name too. A field that it does not have must be optional there, and
// the code that uses it must do without.
package main

import (
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "emulator with debug information (beam.smp)")
	flag.StringVar(&o.release, "release", "", "OTP release, such as 25")
	flag.StringVar(&o.flavor, "flavor", "jit", "jit or emu")
	flag.StringVar(&o.source, "source", "", "source package, version and configuration the emulator was built from")
	flag.StringVar(&o.directory, "directory", "collector/beam", "where to write the table")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "layoutgen:", err)
		os.Exit(1)
	}
}

type options struct {
	binary, release, flavor, source, directory string
}

func run(o options) error {
	if o.binary == "" || o.release == "" || o.source == "" {
		return errors.New("-binary, -release and -source are required")
	}
	file, err := elf.Open(o.binary)
	if err != nil {
		return err
	}
	defer file.Close()
	machine, ok := machines[file.Machine]
	if !ok {
		return fmt.Errorf("%s: machine %v is not supported", o.binary, file.Machine)
	}
	data, err := file.DWARF()
	if err != nil {
		return fmt.Errorf("%s has no debug information: build it with -g: %w", o.binary, err)
	}
	table, err := newTable(o, machine, data)
	if err != nil {
		return fmt.Errorf("%s: %w", o.binary, err)
	}
	text, err := table.format()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.directory, table.fileName()), text, 0o644)
}

// machine is a supported architecture under the names Go and uname give it.
type machine struct{ goarch, uname string }

var machines = map[elf.Machine]machine{
	elf.EM_X86_64:  {"amd64", "x86_64"},
	elf.EM_AARCH64: {"arm64", "aarch64"},
}
