// Package host checks what a host allows a profiler: its kernel, and the
// privileges of this process. It looks at the host only, not at any VM.
//
// Its way through: host.go (all checks in order) → kernel.go, privileges.go,
// probes.go (the checks).
package host

// Status is the result of a check.
type Status uint8

// The results, from good to bad.
const (
	OK     Status = iota
	Note          // worth knowing; profiling works fully nevertheless
	Failed        // profiling does not work, or not fully
	Denied        // the same, because privileges are missing
)

var statusNames = [...]string{"ok", "note", "FAILED", "DENIED"}

// String returns the status as it is shown to users.
func (s Status) String() string { return statusNames[s] }

// Check is the result of one check.
type Check struct {
	Name   string
	Status Status
	Detail string // what was found
	Remedy string // what to do; empty if there is nothing to do
}

// Checks runs all checks. It loads the sampling program and opens events for a
// moment, on CPUs that are online, and leaves nothing behind.
func Checks() []Check {
	kernel := runningKernel()
	privileges := currentPrivileges()
	checks := []Check{
		kernel.check(),
		architecture(),
		pidNamespace("/proc"),
		capabilities(kernel, privileges),
		lockdown("/sys"),
		paranoid("/proc", privileges),
		sampleRate("/proc"),
	}
	checks = append(checks, programs()...)
	return append(checks,
		connections(),
		listing(),
		uprobes("/sys"),
		kernelSymbols(),
		tracefs(),
		btf("/sys"),
	)
}
