// Package memory reads the memory of another process. It only reads: the
// process is neither stopped nor written to, so what is read may change
// between two reads and even within one.
package memory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Sentinel errors, wrapped with what was being read.
var (
	// ErrUnreadable says that an address range is not, or no longer, readable.
	ErrUnreadable = errors.New("memory not readable")
	// ErrExited says that the process has gone; it is an ErrUnreadable too.
	ErrExited = fmt.Errorf("%w: process has exited", ErrUnreadable)
	// ErrPermission says that the kernel does not let us read the process.
	ErrPermission = errors.New("not permitted to read the process (run as root, or with CAP_SYS_PTRACE)")
)

// chunk is how many bytes String reads at a time, and the alignment of those
// reads: none of them crosses into a page the string does not reach.
const chunk = 64

// Process reads the memory of one process. It is safe for concurrent use.
//
// The open /proc/PID/mem belongs to the address space, not to the pid, so a
// Process never reads from another process that got the same pid.
type Process struct {
	pid int
	mem *os.File
}

// Open prepares reading the memory of the process pid, a number of the pid
// namespace /proc shows. Errors wrap os.ErrNotExist or ErrPermission.
func Open(pid int) (*Process, error) {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("open memory of process %d: %w", pid, ErrPermission)
	}
	if err != nil {
		return nil, fmt.Errorf("open memory of process %d: %w", pid, err)
	}
	return &Process{pid: pid, mem: mem}, nil
}

// PID returns the process id given to Open.
func (p *Process) PID() int { return p.pid }

// Close releases the process.
func (p *Process) Close() error { return p.mem.Close() }

// Read fills buf with the bytes at addr, all of them or none that count:
// every error wraps ErrUnreadable.
func (p *Process) Read(buf []byte, addr uint64) error {
	if len(buf) == 0 {
		return nil
	}
	if addr+uint64(len(buf)) < addr || int64(addr) < 0 {
		return unreadable(addr, len(buf), unix.EFAULT)
	}
	for done := 0; done < len(buf); {
		n, err := unix.Pread(int(p.mem.Fd()), buf[done:], int64(addr)+int64(done))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return unreadable(addr, len(buf), err)
		case n == 0:
			return fmt.Errorf("read %d bytes at %#x: %w", len(buf), addr, ErrExited)
		default:
			done += n
		}
	}
	return nil
}

func unreadable(addr uint64, size int, err error) error {
	return fmt.Errorf("read %d bytes at %#x: %w (%w)", size, addr, ErrUnreadable, err)
}
