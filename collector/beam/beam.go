// Package beam knows the Erlang VM (beam.smp) from outside: it finds running
// VMs, chooses the table that says where this release keeps what we read,
// checks it against the VM itself, and answers what sampled words mean: which
// thread is which scheduler, which process a pointer is, its pid, name and
// initial call, atoms, ports and built-in functions.
//
// Everything is read from the VM's memory while it goes on running, without its
// help: every value may be stale or torn and is checked before it is believed.
package beam

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/collector/beam/memory"
	"github.com/beamprof/beamprof/collector/ordered"
)

// Target is a VM to be profiled. It is made by Attach, and all that depends on
// the VM's release and build is decided there. Methods are safe for concurrent
// use.
type Target struct {
	Info
	Memory         *memory.Process
	Layout         *Layout
	Code           *jit.Table
	CodeDescriptor uint64      // address of __jit_debug_descriptor
	Schedulers     []Scheduler // normal, dirty CPU, dirty I/O, each kind by number
	NormalExit     uint64      // return address at the root of every Erlang stack
	FrameLayout    int         // 0: return addresses only; 1: frame pointers too

	image     *image
	threads   map[int]thread // by tid
	processes table
	atoms     *atomTable
	names     *lru.Cache[mfa, string]
	bifs      map[uint64]string // by the address of the C function
	checks    []Check

	identifying    sync.Mutex // guards what follows
	identities     *identities
	initialCallKey uint64 // the atom $initial_call, 0 if not found yet
}

// Attach prepares profiling the VM that is process pid, in the pid namespace
// that /proc shows. The VM does not notice. Errors wrap ErrNoProcess,
// ErrNotBEAM, ErrStarting, ErrUnsupported or ErrPermission.
func Attach(pid int) (*Target, error) {
	t, err := attach(pid)
	if err != nil {
		return nil, fmt.Errorf("attach to process %d: %w", pid, err)
	}
	return t, nil
}

func attach(pid int) (_ *Target, err error) {
	t := &Target{Info: Info{PID: pid}}
	if t.Memory, err = memory.Open(pid); err != nil {
		return nil, procError(err)
	}
	defer func() {
		if err == nil {
			return
		}
		if gone := t.Memory.Read(make([]byte, 1), t.NormalExit); errors.Is(gone, memory.ErrExited) {
			err = fmt.Errorf("%w (%w)", ErrNoProcess, err) // whatever did not make sense
		}
		t.Memory.Close()
	}()
	if t.Executable, err = executable(pid); err != nil {
		return nil, procError(err)
	}
	if t.image, err = openImage(pid); err != nil {
		return nil, procError(err)
	}
	if !t.image.isEmulator() {
		return nil, fmt.Errorf("%w: it executes %s", ErrNotBEAM, t.Executable)
	}
	if err = t.readInfo(t.image, t.Memory); err != nil {
		return nil, err
	}
	if t.Layout, err = findLayout(t.Release, t.Flavor); err != nil {
		return nil, err
	}
	if err = t.setUp(); err != nil {
		return nil, t.ifStarting(err)
	}
	return t, nil
}

// setUp reads and checks what depends on the layout.
func (t *Target) setUp() (err error) {
	if err = t.readTables(); err != nil {
		return err
	}
	if t.Schedulers, err = t.readSchedulers(); err != nil {
		return err
	}
	if err = t.findThreads(); err != nil {
		return err
	}
	if err = t.readCode(); err != nil {
		return err
	}
	t.checks, err = t.runChecks()
	return err
}

// readTables prepares reading atoms, processes and built-in functions.
func (t *Target) readTables() (err error) {
	atoms, ok := t.Symbol("erts_atom_table")
	if !ok {
		return fmt.Errorf("%w: erts_atom_table: %w", ErrUnsupported, errNoSymbol)
	}
	t.atoms = newAtomTable(t.Memory, t.Layout, atoms)
	t.names, t.identities = newCache[mfa, string](knownNames), newCache[uint64, *identity](knownProcesses)
	if t.processes, err = t.readTable("erts_proc"); err != nil {
		return err
	}
	t.bifs, err = t.readBIFs()
	return err
}

// newCache returns a cache of a size, which must be positive.
func newCache[K comparable, V any](size int) *lru.Cache[K, V] {
	cache, err := lru.New[K, V](size)
	if err != nil {
		panic(err)
	}
	return cache
}

// readCode opens the table of JIT code.
func (t *Target) readCode() error {
	descriptor, ok := t.Symbol("__jit_debug_descriptor")
	if !ok {
		return fmt.Errorf("%w: it has no list of its JIT code", ErrUnsupported)
	}
	var err error
	t.CodeDescriptor = descriptor
	t.Code, err = jit.Open(t.Memory, descriptor)
	switch {
	case t.Code != nil && errors.Is(err, jit.ErrIncomplete):
		// A VM that loads code just now; the next refresh reads the rest.
	case errors.Is(err, jit.ErrLayout), errors.Is(err, jit.ErrNoCode):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	case err != nil:
		return fmt.Errorf("read the VM's code: %w", err)
	}
	t.NormalExit, t.FrameLayout = t.Code.NormalExit(), t.Code.FrameLayout()
	return nil
}

// RefreshCode takes in the code that was loaded and removed since the last time.
func (t *Target) RefreshCode() error {
	_, err := t.Code.Refresh(ordered.Now())
	if err != nil && !errors.Is(err, jit.ErrIncomplete) {
		return fmt.Errorf("read the VM's code: %w", err)
	}
	return nil
}

// startupTime is for how long a VM may be one that is not set up completely.
// Its own servers run after less than a second.
var startupTime = 10 * time.Second

// ifStarting turns the error that a VM is not as expected into one that wraps
// ErrStarting if the VM was started only just now.
func (t *Target) ifStarting(err error) error {
	age, ageErr := processAge(t.PID)
	if !errors.Is(err, ErrUnsupported) || ageErr != nil || age >= startupTime {
		return err
	}
	return fmt.Errorf("%w (it was started %v ago; %v)", ErrStarting, age.Round(time.Second/10), err)
}

// procError turns what /proc said into the errors of this package.
func procError(err error) error {
	switch {
	case errors.Is(err, ErrPermission):
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w (%w)", ErrPermission, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, memory.ErrExited):
		return fmt.Errorf("%w (%w)", ErrNoProcess, err)
	}
	return err
}

// Symbol returns the address, in the VM, of a function or variable of the
// emulator: an exported one, or any if its file has a symbol table.
func (t *Target) Symbol(name string) (uint64, bool) {
	s, ok := t.image.lookup(name)
	return s.address, ok
}

// Close releases the VM.
func (t *Target) Close() error { return t.Memory.Close() }
