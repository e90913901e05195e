package native

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// errNoFile says that a mapping with a name has no file that could be opened:
// shared memory, a memfd, a device.
var errNoFile = errors.New("not a file")

// openMapped opens the file behind a mapping of the process, also if the file
// was deleted or replaced since, or lies in a container's file system. The
// error is errNoFile if there is none.
//
//  1. /proc/PID/map_files gives the very file, but needs CAP_SYS_ADMIN or
//     CAP_CHECKPOINT_RESTORE.
//  2. /proc/PID/exe gives the very main program.
//  3. The path, below /proc/PID/root or as it is, may by now be another file,
//     so it must show that it is the one: same inode, or same bytes as in memory.
func (s *Space) openMapped(m *mapLine) (*os.File, error) {
	file, err := openRegular(fmt.Sprintf("/proc/%d/map_files/%x-%x", s.pid, m.start, m.limit))
	if err == nil || errors.Is(err, errNoFile) {
		return file, err
	}
	if m.deleted && isPseudoFile(m.path) {
		return nil, errNoFile
	}
	if file := s.openProgram(m); file != nil {
		return file, nil
	}
	if m.deleted {
		return nil, fmt.Errorf("%s was deleted or replaced since it was loaded, and only root "+
			"(CAP_SYS_ADMIN) can read it still: %w", m.path, err)
	}
	return s.openPath(m)
}

// isPseudoFile recognises the names the kernel gives to memory that is shared
// through a file without a place in the file system. It shows them as deleted.
func isPseudoFile(path string) bool {
	return strings.HasPrefix(path, "/memfd:") || strings.HasPrefix(path, "/dev/zero") ||
		strings.HasPrefix(path, "/SYSV") || strings.HasPrefix(path, "/anon_hugepage")
}

// openProgram returns the process's main program if that is what m maps.
func (s *Space) openProgram(m *mapLine) *os.File {
	link := fmt.Sprintf("/proc/%d/exe", s.pid)
	target, err := os.Readlink(link)
	if err != nil || strings.TrimSuffix(target, " (deleted)") != m.path {
		return nil
	}
	file, err := openRegular(link)
	if err != nil {
		return nil
	}
	// A library can bear the name of a program that was replaced.
	if !s.sameFile(file, m) {
		file.Close()
		return nil
	}
	return file
}

// openPath returns the file that has the mapping's path now, if it is still
// the same. The kernel writes paths from our root where it can, and from the
// root of the process's mount namespace otherwise.
func (s *Space) openPath(m *mapLine) (*os.File, error) {
	var errs []error
	for _, path := range []string{fmt.Sprintf("/proc/%d/root%s", s.pid, m.path), m.path} {
		file, err := openRegular(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.sameFile(file, m) {
			return file, nil
		}
		file.Close()
		errs = append(errs, fmt.Errorf("%s is not the file that is mapped: it was replaced", path))
	}
	return nil, errors.Join(errs...)
}

// openRegular opens a regular file. The path is under the target's control:
// it must not make us wait for a pipe or touch a device.
func openRegular(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "fstat", Path: path, Err: err}
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, fmt.Errorf("%s: %w", path, errNoFile)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// sameFile tells whether the file is the one that m maps. Code is not
// written to, so equal bytes mean an equal file where inodes do not compare.
func (s *Space) sameFile(file *os.File, m *mapLine) bool {
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err == nil && sameInode(&stat, m.file) {
		return true
	}
	inFile, inMemory := make([]byte, os.Getpagesize()), make([]byte, os.Getpagesize())
	if err := s.memory.Read(inMemory, m.start); err != nil {
		return false
	}
	if n, err := file.ReadAt(inFile, int64(m.offset)); err != nil && !(errors.Is(err, io.EOF) && n > 0) {
		return false
	}
	return bytes.Equal(inFile, inMemory)
}

func sameInode(stat *unix.Stat_t, id fileID) bool {
	return stat.Ino == id.inode && unix.Major(stat.Dev) == id.major && unix.Minor(stat.Dev) == id.minor
}
