package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of looking for files.
const (
	maxFiles       = 16
	maxDescriptors = 1 << 20
	sniffed        = 4096 // bytes at a file's end in which a zero says that it is no text
)

// namedFile is a file that the user named.
type namedFile string

func named(paths []string) []source {
	var sources []source
	for _, p := range paths {
		sources = append(sources, namedFile(p))
	}
	return sources
}

func (n namedFile) path() string { return string(n) }

func (n namedFile) open() (*os.File, error) { return openRegular(string(n)) }

func (n namedFile) is(stat *unix.Stat_t) bool { return isFile(string(n), stat) }

// openFileOf is a file that the VM has open. It is opened through the VM's
// descriptor and never by its path, which the VM could make lead anywhere.
type openFileOf struct {
	pid        int
	link       string // its path where the VM is
	descriptor int    // where it was seen last
}

func (o *openFileOf) path() string { return o.link }

// open opens what the VM writes under the path now.
func (o *openFileOf) open() (*os.File, error) {
	if o.leadsTo(o.descriptor) {
		return openRegular(descriptorPath(o.pid, o.descriptor))
	}
	descriptors, err := descriptorsOf(o.pid)
	if err != nil {
		return nil, err
	}
	for _, d := range descriptors {
		if o.leadsTo(d) {
			o.descriptor = d
			return openRegular(descriptorPath(o.pid, d))
		}
	}
	return nil, fmt.Errorf("%s: %w", o.link, fs.ErrNotExist)
}

func (o *openFileOf) leadsTo(descriptor int) bool {
	link, err := os.Readlink(descriptorPath(o.pid, descriptor))
	return err == nil && link == o.link
}

// is looks at the path, for that is cheap: whatever it leads to is only compared.
func (o *openFileOf) is(stat *unix.Stat_t) bool {
	return isFile(fmt.Sprintf("/proc/%d/root%s", o.pid, o.link), stat)
}

func descriptorPath(pid, descriptor int) string {
	return fmt.Sprintf("/proc/%d/fd/%d", pid, descriptor)
}

// find returns the log files that a VM has open: regular files that it appends
// to, and its standard output, if they hold text.
func find(pid int) ([]source, error) {
	descriptors, err := descriptorsOf(pid)
	if err != nil {
		return nil, err
	}
	var sources []source
	seen := map[string]bool{}
	for _, d := range descriptors {
		link, err := os.Readlink(descriptorPath(pid, d))
		if err != nil || !strings.HasPrefix(link, "/") || strings.HasSuffix(link, " (deleted)") || seen[link] || !appends(pid, d) {
			continue
		}
		f, err := openRegular(descriptorPath(pid, d))
		if err != nil {
			continue
		}
		if isText(f) && len(sources) < maxFiles {
			seen[link] = true
			sources = append(sources, &openFileOf{pid, link, d})
		}
		f.Close()
	}
	if len(sources) == 0 {
		return nil, fmt.Errorf("%w%s; name one with --log FILE", ErrNoLog, standardOutput(pid))
	}
	return sources, nil
}

// descriptorsOf returns the numbers of a process's open files.
func descriptorsOf(pid int) ([]int, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, fmt.Errorf("look for log files: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(maxDescriptors)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("look for log files: %w", err)
	}
	var descriptors []int
	for _, name := range names {
		if d, err := strconv.Atoi(name); err == nil {
			descriptors = append(descriptors, d)
		}
	}
	return descriptors, nil
}

// appends tells whether a descriptor is one that logs are written to: opened
// for appending, as lager and logger do and databases do not, or the standard
// output or error, opened for writing.
func appends(pid, descriptor int) bool {
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, descriptor))
	if err != nil {
		return false
	}
	for line := range bytes.Lines(info) {
		if octal, found := bytes.CutPrefix(line, []byte("flags:")); found {
			flags, err := strconv.ParseUint(string(bytes.TrimSpace(octal)), 8, 64)
			standard := descriptor == 1 || descriptor == 2
			return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY && (standard || flags&unix.O_APPEND != 0)
		}
	}
	return false
}

// isText tells whether there is no zero byte at the end of a file.
func isText(f *os.File) bool {
	stat, err := statOf(f)
	if err != nil {
		return false
	}
	tail := make([]byte, min(stat.Size, sniffed))
	n, err := f.ReadAt(tail, stat.Size-int64(len(tail)))
	return (err == nil || errors.Is(err, io.EOF)) && bytes.IndexByte(tail[:n], 0) < 0
}

// standardOutput says where a process's standard output goes.
func standardOutput(pid int) string {
	link, err := os.Readlink(descriptorPath(pid, 1))
	switch {
	case err != nil:
		return ""
	case strings.HasPrefix(link, "pipe:"), strings.HasPrefix(link, "socket:"):
		return ", and the standard output goes to a pipe or the journal, which cannot be read"
	case link == os.DevNull:
		return ", and the standard output is thrown away"
	}
	return ", and the standard output goes to " + filepath.Clean(link)
}

// openRegular opens a regular file. Nothing else is ever opened: devices and
// pipes may do something then.
func openRegular(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	return f, nil
}

func statOf(f *os.File) (unix.Stat_t, error) {
	var stat unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &stat)
	return stat, err
}

// isFile tells whether a path leads to the file; true if it leads nowhere.
func isFile(path string, file *unix.Stat_t) bool {
	var stat unix.Stat_t
	if unix.Stat(path, &stat) != nil {
		return true
	}
	return stat.Dev == file.Dev && stat.Ino == file.Ino
}
