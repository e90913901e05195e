package beam

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Candidate is an Erlang VM on this host.
type Candidate struct {
	Info
	// Err says why the VM can't be profiled: it wraps ErrUnsupported,
	// ErrStarting or ErrPermission. It is nil if its release and flavor are
	// supported; Attach looks closer.
	Err error
}

// List returns every Erlang VM that /proc shows, in containers too, ordered by
// pid. A VM is known by what its program defines, not by its name; where we may
// not read the program, the name must do.
func List() ([]Candidate, error) {
	var f Finder
	return f.Find(func(int) bool { return false })
}

// Finder finds VMs again and again. It remembers which programs are emulators,
// so that a look at a host where little is new costs little.
type Finder struct {
	programs map[fileID]bool
	since    time.Time
}

// maxProgramAge is how long it is remembered what a program is: numbers of files
// are used again.
const maxProgramAge = time.Hour

// Find is List without the processes that skip names.
func (f *Finder) Find(skip func(pid int) bool) ([]Candidate, error) {
	if f.programs == nil || time.Since(f.since) > maxProgramAge {
		f.programs, f.since = map[fileID]bool{}, time.Now()
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes (is /proc mounted?): %w", err)
	}
	var found []Candidate
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || skip(pid) {
			continue
		}
		if candidate, ok := examine(pid, f.programs); ok {
			found = append(found, candidate)
		}
	}
	slices.SortFunc(found, func(a, b Candidate) int { return cmp.Compare(a.PID, b.PID) })
	return found, nil
}

// fileID identifies a file on this host.
type fileID struct{ device, inode uint64 }

// examine tells whether a process is a VM. programs remembers which programs are.
func examine(pid int, programs map[fileID]bool) (Candidate, bool) {
	var c Candidate
	c.PID = pid
	var status syscall.Stat_t
	err := syscall.Stat(fmt.Sprintf("/proc/%d/exe", pid), &status)
	if errors.Is(err, fs.ErrPermission) {
		c.Executable, c.Err = commandName(pid), ErrPermission
		return c, strings.HasPrefix(c.Executable, "beam.")
	}
	if err != nil { // a kernel thread, a zombie, or gone
		return c, false
	}
	id := fileID{status.Dev, status.Ino}
	if emulator, known := programs[id]; known && !emulator {
		return c, false
	}
	image, err := openImage(pid)
	programs[id] = err == nil && image.isEmulator()
	if !programs[id] {
		return c, false
	}
	if c.Executable, err = executable(pid); err != nil {
		return c, false
	}
	m, err := memory.Open(pid)
	if errors.Is(err, fs.ErrNotExist) {
		return c, false
	}
	if err != nil {
		c.Err = err
		return c, true
	}
	defer m.Close()
	if c.Err = c.readInfo(image, m); c.Err == nil {
		_, c.Err = findLayout(c.Release, c.Flavor)
	}
	return c, !errors.Is(c.Err, memory.ErrExited)
}

// commandName returns the name of the program a process executes, which everyone may read.
func commandName(pid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(comm))
}
