// Package wholefile writes files that are there whole or not at all, also after
// a power cut.
package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Write makes the file name of the content; another of that name is replaced.
// It writes to the file temporary first, in the same directory. When it returns
// nil the file outlives a power cut. After an error neither file is there, if
// they can be removed.
func Write(name, temporary string, content []byte, mode fs.FileMode) error {
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		os.Remove(temporary)
		return err
	}
	if err = os.Rename(temporary, name); err != nil {
		os.Remove(temporary)
		return err
	}
	if err = SyncDir(filepath.Dir(name)); err != nil {
		os.Remove(name)
	}
	return err
}

// SyncDir makes the names in a directory last. Some file systems cannot, and
// need not.
func SyncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return nil
}
