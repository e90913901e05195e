package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/beamprof/beamprof/collector/beam"
)

// Exit codes.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNoVM         = 3 // no such VM, or not supported
	exitNotPermitted = 4
)

// usageError says that the command line is wrong.
type usageError struct {
	message string
	command string // whose help explains it; empty for the program's
}

func (e *usageError) Error() string { return e.message }

// hint says how to see the help that explains it.
func (e *usageError) hint() string {
	if e.command == "" {
		return "see: beamprof --help"
	}
	return "see: beamprof " + e.command + " --help"
}

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// outputError says that a result could not be written: it is a failure even
// where the reason is a lack of permission, which is about the VM otherwise.
type outputError struct{ err error }

func (e *outputError) Error() string { return e.err.Error() }
func (e *outputError) Unwrap() error { return e.err }

// codeError is an error whose exit code is decided already.
type codeError struct {
	code int
	err  error
}

func (e *codeError) Error() string { return e.err.Error() }
func (e *codeError) Unwrap() error { return e.err }

// errNoVM says that no VM fits what was asked for.
var errNoVM = errors.New("no such Erlang VM")

// exitCode returns the exit code for what a command returned.
func exitCode(err error) int {
	var usage *usageError
	var output *outputError
	var code *codeError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return code.code
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &output):
		return exitFailed
	case errors.Is(err, beam.ErrPermission), errors.Is(err, fs.ErrPermission):
		return exitNotPermitted
	case errors.Is(err, errNoVM), errors.Is(err, beam.ErrNoProcess), errors.Is(err, beam.ErrNotBEAM),
		errors.Is(err, beam.ErrStarting), errors.Is(err, beam.ErrUnsupported):
		return exitNoVM
	}
	return exitFailed
}
