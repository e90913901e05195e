// Package logs follows the log files of a VM and counts lines that tell of
// trouble. The files are found among those the VM has open (find.go), or named
// by the user; they are read from some time back, and then followed as they
// grow, are rotated or truncated (file.go). What to look for is data
// (pattern.go); all patterns are searched for at once (search.go, lines.go).
package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/beamprof/beamprof/internal/pace"
)

// How far back files are read when they are opened.
const (
	pastTime  = time.Hour
	pastBytes = 8 << 20 // per file
)

// pollInterval is how often files are looked at.
const pollInterval = 500 * time.Millisecond

// Signal is a kind of line that tells of something.
type Signal struct {
	Name     string
	Patterns []*Pattern // any of them

	// A signal without patterns: lines of the signal Of in which the field
	// Repeats has the same value as in the line before with the other fields
	// equal, from the Times-th in a row on.
	Of, Repeats string
	Times       int
}

// Options of a session.
type Options struct {
	PID     int
	Files   []string // paths; if empty, the files that the VM has open
	Signals []Signal // with at most 64 patterns in all
}

// File is what was read of a file and its predecessors.
type File struct {
	Path       string
	Lines      uint64 // whole lines
	Bytes      uint64
	Skipped    uint64 // bytes not looked at because they were written too fast
	Rotations  int    // times that a new file took its place, or that it was truncated
	Unreadable error  // why it could not be followed to the end
}

// Result is what was found. Of several files each signal is counted in the one
// that has it most often: the same lines may be written to each of them.
type Result struct {
	Counts []Count
	Files  []File
}

// ErrNoLog says that the VM has no log file open. The message says what becomes
// of its standard output.
var ErrNoLog = errors.New("no log file is open")

// Session follows a VM's logs from Open to Close.
type Session struct {
	start time.Time
	files []*file
	lines *lines
	mutex sync.Mutex // guards what was found
}

// Open finds and opens the files. What is written from now on is in the
// window. Errors wrap ErrNoLog, or os.ErrPermission if privileges are missing.
func Open(o Options) (*Session, error) {
	s := &Session{start: time.Now(), lines: newLines(o.Signals)}
	sources := named(o.Files)
	if len(sources) == 0 {
		var err error
		if sources, err = find(o.PID); err != nil {
			return nil, err
		}
	}
	var errs []error
	for _, source := range sources {
		f, err := openFile(source, newCounts(o.Signals))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.files = append(s.files, f)
	}
	if len(s.files) == 0 || len(o.Files) > 0 && len(errs) > 0 {
		s.Close()
		return nil, fmt.Errorf("open the log: %w", errors.Join(errs...))
	}
	return s, nil
}

// Run reads what was written before and then follows the files until the
// context ends. What is there at that time is read.
func (s *Session) Run(ctx context.Context) {
	s.mutex.Lock()
	for _, f := range s.files {
		f.past(s.lines, s.start)
	}
	s.mutex.Unlock()
	tick := time.NewTimer(0)
	defer tick.Stop()
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
			tick.Reset(time.Until(pace.Next(pollInterval)))
		}
		s.mutex.Lock()
		for _, f := range s.files {
			f.poll(s.lines)
		}
		s.mutex.Unlock()
	}
}

// Result returns what was found until now; all of it when Run has returned.
func (s *Session) Result() Result {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var r Result
	best := map[string]int{} // signal → index in r.Counts
	for _, f := range s.files {
		r.Files = append(r.Files, f.File)
		for _, c := range f.counts.result() {
			i, found := best[c.Signal.Name]
			switch {
			case !found:
				best[c.Signal.Name] = len(r.Counts)
				r.Counts = append(r.Counts, c)
			case c.Count > r.Counts[i].Count:
				r.Counts[i] = c
			}
		}
	}
	return r
}

// Close closes the files.
func (s *Session) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.close())
	}
	return errors.Join(errs...)
}

var errNotRegular = fmt.Errorf("not a regular file: %w", os.ErrInvalid)
