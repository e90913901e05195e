// Package memory reads the memory of another process. It only reads: the
// process is neither stopped nor written to, so what is read may change
// between two reads and even within one.
package memory

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Sentinel errors, wrapped with what was being read.
var (
	// ErrUnreadable says that an address range is not, or no longer, readable.
	ErrUnreadable = errors.New("memory not readable")
	// ErrExited says that the process has gone or executes another program; it is an ErrUnreadable too.
	ErrExited = fmt.Errorf("%w: process has exited", ErrUnreadable)
	// ErrPermission says that the kernel does not let us read the process.
	ErrPermission = errors.New("not permitted to read the process's memory: run as root or with CAP_SYS_PTRACE")
)

// Process reads the memory of one process. It is safe for concurrent use.
//
// It holds /proc/PID/mem open and not just the pid: that file belongs to the
// address space, so a later process that gets the same pid is never read, and
// the permission is asked for once. A read costs about what
// process_vm_readv(2) costs (1 µs up to a page).
type Process struct {
	pid int
	mem *os.File
}

// Open prepares reading the memory of the process pid, a number of the pid
// namespace that /proc shows. Errors wrap os.ErrNotExist or ErrPermission.
func Open(pid int) (*Process, error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("process %d: %w", pid, ErrPermission)
	}
	if err != nil {
		return nil, fmt.Errorf("open the memory of process %d: %w", pid, err)
	}
	return &Process{pid: pid, mem: mem}, nil
}

// PID returns the process id given to Open.
func (p *Process) PID() int { return p.pid }

// Close releases the process. Reads fail from then on.
func (p *Process) Close() error { return p.mem.Close() }

// Read fills buf with the bytes at addr: all of them, or the error wraps
// ErrUnreadable and the content of buf means nothing.
func (p *Process) Read(buf []byte, addr uint64) error {
	if len(buf) == 0 {
		return nil
	}
	if end := addr + uint64(len(buf)); end < addr || int64(end) < 0 {
		return fmt.Errorf("read %d bytes at %#x: %w: no user address", len(buf), addr, ErrUnreadable)
	}
	n, err := p.mem.ReadAt(buf, int64(addr))
	if n == len(buf) {
		return nil
	}
	// The kernel reads nothing, without an error, once the address space is gone.
	if n == 0 && errors.Is(err, io.EOF) {
		return fmt.Errorf("read %d bytes at %#x: %w", len(buf), addr, ErrExited)
	}
	return fmt.Errorf("read %d bytes at %#x: %w: %w", len(buf), addr, ErrUnreadable, err)
}

// Uint64 reads the 64-bit word at addr.
func (p *Process) Uint64(addr uint64) (uint64, error) { return Uint64(p, addr) }

// Uint32 reads the 32-bit word at addr.
func (p *Process) Uint32(addr uint64) (uint32, error) { return Uint32(p, addr) }

// Words fills words with the 64-bit words at addr.
func (p *Process) Words(words []uint64, addr uint64) error { return Words(p, words, addr) }

// String reads the NUL-terminated string at addr; see the function String.
func (p *Process) String(addr uint64, max int) (string, error) { return String(p, addr, max) }
