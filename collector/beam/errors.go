package beam

import (
	"errors"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Sentinel errors of Attach and of Candidate.Err, wrapped with the reason and the remedy.
var (
	// ErrNoProcess says that there is no such operating system process.
	ErrNoProcess = errors.New("no such process")
	// ErrNotBEAM says that the process is not an Erlang VM.
	ErrNotBEAM = errors.New("not an Erlang VM")
	// ErrStarting says that the VM has not set up its tables yet.
	ErrStarting = errors.New("the VM is still starting: try again in a moment")
	// ErrUnsupported says that the VM's release or build is not one whose memory we know how to read.
	ErrUnsupported = errors.New("unsupported Erlang VM")
	// ErrPermission says that the kernel does not let us look at the process.
	ErrPermission = memory.ErrPermission
)
