package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func content(s string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, s)
		return err
	}
}

func TestOutputIsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	d, err := prepareOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	if found := names(t, dir); len(found) != 0 {
		t.Errorf("trying to write left %v", found)
	}
	if err := d.write([]outputFile{{"one", content("1")}, {"two", content("2")}}); err != nil {
		t.Fatal(err)
	}
	d.abort() // too late to do harm
	if found := names(t, dir); !slices.Equal(found, []string{"one", "two"}) {
		t.Errorf("found %v", found)
	}
	if s, err := os.ReadFile(filepath.Join(dir, "two")); err != nil || string(s) != "2" {
		t.Errorf("two: %q, %v", s, err)
	}
}

// TestOutputNothingHalfWritten: a file that fails leaves neither itself nor
// those before it, nor directories that were made.
func TestOutputNothingHalfWritten(t *testing.T) {
	parent := t.TempDir()
	d, err := prepareOutput(filepath.Join(parent, "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	broken := func(w io.Writer) error {
		io.WriteString(w, "half")
		return unix.ENOSPC
	}
	err = d.write([]outputFile{{"one", content("1")}, {"two", broken}})
	var output *outputError
	if !errors.As(err, &output) || !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("error: %v", err)
	}
	if found := names(t, parent); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

func TestOutputDiskFull(t *testing.T) {
	disk := tinyDisk(t, "64k")
	dir := filepath.Join(disk, "out")
	d, err := prepareOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = d.write([]outputFile{{"small", content("1")}, {"large", content(strings.Repeat("x", 1<<20))}})
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("error: %v", err)
	}
	if found := names(t, disk); len(found) != 0 {
		t.Errorf("left behind: %v", found)
	}
}

func TestOutputRefusals(t *testing.T) {
	parent := t.TempDir()
	file := filepath.Join(parent, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		parent:                               "not empty",
		file:                                 "not a directory",
		filepath.Join(file, "below"):         "not a directory",
		"/proc/beamprof":                     "choose another --output",
		filepath.Join(parent, "x\x00y", "z"): "choose another --output",
	} {
		_, err := prepareOutput(path)
		var output *outputError
		if !errors.As(err, &output) || !strings.Contains(err.Error(), want) || exitCode(err) != exitFailed {
			t.Errorf("%q: %v", path, err)
		}
	}
	if found := names(t, parent); !slices.Equal(found, []string{"file"}) {
		t.Errorf("left behind: %v", found)
	}
}

func TestOutputAcceptsAnEmptyDirectory(t *testing.T) {
	dir := t.TempDir()
	d, err := prepareOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	d.abort()
	if names(t, dir) == nil {
		t.Error("a directory that was there before is gone")
	}
	if err := d.write([]outputFile{{"late", content("1")}}); !errors.Is(err, errAborted) {
		t.Errorf("written after abort: %v", err)
	}
}

// TestOutputOverwritesNothing: not even what appears while profiling.
func TestOutputOverwritesNothing(t *testing.T) {
	dir := t.TempDir()
	d, err := prepareOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "one")
	if err := os.WriteFile(other, []byte("another's"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := d.write([]outputFile{{"one", content("ours")}}); !errors.Is(err, os.ErrExist) {
		t.Errorf("error: %v", err)
	}
	if s, _ := os.ReadFile(other); string(s) != "another's" {
		t.Errorf("it is %q now", s)
	}
	if found := names(t, dir); len(found) != 1 {
		t.Errorf("left behind: %v", found)
	}
}

// TestOutputAbortedWhileWriting: a second Ctrl-C leaves nothing.
func TestOutputAbortedWhileWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	d, err := prepareOutput(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = d.write([]outputFile{{"one", func(w io.Writer) error {
		io.WriteString(w, "half")
		d.abort()
		return nil
	}}})
	if err == nil {
		t.Error("written after abort")
	}
	if found := names(t, dir); found != nil {
		t.Errorf("left behind: %v", found)
	}
}
