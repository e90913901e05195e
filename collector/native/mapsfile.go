package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// mapsFile reads /proc/PID/maps again and again. The open file belongs to the
// address space, not to the pid: a later process with the same pid is not read.
type mapsFile struct {
	pid         int
	file        *os.File
	last, spare []byte
}

// maxMaps bounds the text: about ten times what the kernel's default limit of
// 65530 mappings can yield.
const maxMaps = 64 << 20

func openMaps(pid int) (*mapsFile, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if errors.Is(err, os.ErrPermission) {
		return nil, fmt.Errorf("process %d: %w", pid, memory.ErrPermission)
	}
	if err != nil {
		return nil, fmt.Errorf("open the mappings of process %d: %w", pid, err)
	}
	return &mapsFile{pid: pid, file: file}, nil
}

func (m *mapsFile) close() error { return m.file.Close() }

// read returns the text, valid until the call after next, and whether it
// differs from that of the last call.
func (m *mapsFile) read() (text []byte, changed bool, err error) {
	text = m.spare[:0]
	for {
		if cap(text)-len(text) < os.Getpagesize() {
			// The kernel fills at most a page per read; leave room for one.
			text = append(text, make([]byte, len(text)+4*os.Getpagesize())...)[:len(text)]
		}
		n, err := m.file.ReadAt(text[len(text):cap(text)], int64(len(text)))
		text = text[:len(text)+n]
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, unix.ESRCH) {
			return nil, false, fmt.Errorf("process %d: %w", m.pid, memory.ErrExited)
		}
		if err != nil {
			return nil, false, fmt.Errorf("read the mappings of process %d: %w", m.pid, err)
		}
		if len(text) > maxMaps {
			return nil, false, fmt.Errorf("process %d has more than %d bytes of mappings", m.pid, maxMaps)
		}
	}
	if len(text) == 0 {
		return nil, false, fmt.Errorf("process %d: %w", m.pid, memory.ErrExited)
	}
	m.last, m.spare = text, m.last
	return m.last, !bytes.Equal(m.last, m.spare), nil
}
