package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/wholefile"
)

// outputDir is the directory of one recording. It is made and tried before
// profiling begins; its files appear at the end, each whole or not at all.
type outputDir struct {
	path    string
	created []string // directories made for it, the outermost first

	mu        sync.Mutex
	temporary map[string]bool // files being written
	aborted   bool
}

// outputFile is a file to be written.
type outputFile struct {
	name  string
	write func(io.Writer) error
}

// prepareOutput makes the directory, or accepts an empty one, and makes sure
// that files can be written there. Its errors are outputErrors.
func prepareOutput(path string) (*outputDir, error) {
	d := &outputDir{path: path, temporary: make(map[string]bool)}
	if err := d.prepare(); err != nil {
		d.removeCreated()
		return nil, &outputError{err}
	}
	return d, nil
}

func (d *outputDir) prepare() error {
	entries, err := os.ReadDir(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := d.makeAll(); err != nil {
			return fmt.Errorf("make the output directory: %w: choose another --output", err)
		}
	case err != nil:
		return fmt.Errorf("look into the output directory: %w: choose another --output", err)
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty and nothing is overwritten: choose another --output", d.path)
	}
	probe, err := os.CreateTemp(d.path, ".beamprof-*")
	if err != nil {
		return fmt.Errorf("try to write: %w: choose another --output", err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// makeAll is os.MkdirAll that remembers what it made.
func (d *outputDir) makeAll() error {
	var missing []string
	for dir := filepath.Clean(d.path); ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append([]string{dir}, missing...)
	}
	for _, dir := range missing {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		d.created = append(d.created, dir)
	}
	return nil
}

// removeCreated removes the directories made, as far as they are empty.
func (d *outputDir) removeCreated() {
	for i := len(d.created) - 1; i >= 0; i-- {
		if os.Remove(d.created[i]) != nil {
			return
		}
	}
}

// write writes the files: all of them under temporary names first, so that a
// full disk leaves none. Its errors are outputErrors.
func (d *outputDir) write(files []outputFile) error {
	err := d.writeAll(files)
	if err != nil {
		d.abort()
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = fmt.Errorf("%w: make room there or choose another --output", err)
		}
		return &outputError{err}
	}
	return nil
}

func (d *outputDir) writeAll(files []outputFile) error {
	for _, f := range files {
		if err := d.writeTemporary(f); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(d.path, f.name), err)
		}
	}
	for _, f := range files {
		if err := d.publish(f.name); err != nil {
			return err
		}
	}
	return wholefile.SyncDir(d.path)
}

func (d *outputDir) temporaryName(name string) string {
	return filepath.Join(d.path, fmt.Sprintf(".%s.%d", name, os.Getpid()))
}

func (d *outputDir) writeTemporary(f outputFile) error {
	name := d.temporaryName(f.name)
	file, err := d.create(name)
	if err != nil {
		return err
	}
	err = f.write(file)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

var errAborted = errors.New("aborted")

func (d *outputDir) create(name string) (*os.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aborted {
		return nil, errAborted
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		d.temporary[name] = true
	}
	return file, err
}

// publish gives a file that was written its name.
func (d *outputDir) publish(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.aborted {
		return errAborted
	}
	temporary := d.temporaryName(name)
	if err := renameNew(temporary, filepath.Join(d.path, name)); err != nil {
		return err
	}
	delete(d.temporary, temporary)
	return nil
}

// renameNew is os.Rename that does not overwrite, where the file system can.
func renameNew(from, to string) error {
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		if _, err := os.Lstat(to); err == nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		return os.Rename(from, to)
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

// abort removes what was not finished; nothing can be written afterwards. It
// may be called at any time, from any goroutine, and more than once.
func (d *outputDir) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.aborted = true
	for name := range d.temporary {
		os.Remove(name)
		delete(d.temporary, name)
	}
	d.removeCreated()
}
