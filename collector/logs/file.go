package logs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of reading.
const (
	bufferSize = 256 << 10
	maxPoll    = 8 << 20 // bytes of a file that are read at a time: 32 MiB/s
	tailSize   = 64      // bytes before the offset by which a truncated file is told
	maxPause   = 40      // polls until a successor that was not there is looked for again: 10 s
)

// source is where a file is to be found, now and after it was rotated.
type source interface {
	path() string
	open() (*os.File, error)   // the file that is written now
	is(stat *unix.Stat_t) bool // whether it is still this one; true if that is not known
}

// file is a log file being followed.
type file struct {
	File
	source  source
	f       *os.File
	id      unix.Stat_t // of f
	offset  int64       // up to which f was read
	tail    []byte      // what stands before offset
	partial []byte      // the beginning of a line whose end is not there yet
	discard bool        // up to the next line break
	buffer  []byte
	pause   int // polls until a successor is looked for
	failed  int // times in a row that none was there
	clock   clock
	counts  *counts
}

func openFile(s source, counts *counts) (*file, error) {
	f := &file{File: File{Path: s.path()}, source: s, counts: counts, buffer: make([]byte, bufferSize)}
	return f, f.reopen()
}

// reopen takes the file that is written now, and goes to its end.
func (f *file) reopen() error {
	opened, err := f.source.open()
	if err != nil {
		return err
	}
	if f.id, err = statOf(opened); err != nil {
		opened.Close()
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	f.close()
	f.f, f.offset = opened, f.id.Size
	f.restart()
	return nil
}

// restart forgets what was read of a line.
func (f *file) restart() { f.partial, f.tail, f.discard = f.partial[:0], f.tail[:0], false }

func (f *file) close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}

// past reads back from the end, as it was when the file was opened.
func (f *file) past(l *lines, now time.Time) {
	end := f.offset
	f.offset = max(0, end-pastBytes)
	f.discard = f.offset > 0
	written := time.Unix(f.id.Mtim.Unix())
	f.calibrate(end, written)
	if written.After(now) {
		written = now
	}
	f.readUpTo(end, l, moment{since: now.Add(-pastTime), now: written})
}

// calibrate tells the zone of the file's stamps by its last line that has one.
func (f *file) calibrate(end int64, written time.Time) {
	tail := f.buffer[:min(end, bufferSize)]
	if _, err := f.f.ReadAt(tail, end-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return
	}
	for len(tail) > 0 {
		begin := bytes.LastIndexByte(tail[:len(tail)-1], '\n') + 1
		if s, ok := parseStamp(tail[begin:]); ok {
			f.clock.calibrate(s, written)
			return
		}
		tail = tail[:begin]
	}
}

// poll reads what was written since, and sees whether another file has taken
// the place of this one.
func (f *file) poll(l *lines) {
	if f.Unreadable != nil {
		return
	}
	now := moment{live: true, now: time.Now()}
	if err := f.pollOnce(l, now); err != nil {
		f.Unreadable = err
	}
}

func (f *file) pollOnce(l *lines, now moment) error {
	f.pause = max(0, f.pause-1)
	// Before reading: the writer is done with the file then.
	replaced := f.pause == 0 && !f.source.is(&f.id)
	stat, err := statOf(f.f)
	if err != nil {
		return err
	}
	if stat.Size < f.offset || !f.sameTail() {
		f.Rotations++
		f.offset = 0
		f.restart()
	}
	if behind := stat.Size - f.offset; behind > maxPoll {
		f.Skipped += uint64(behind - maxPoll)
		f.offset = stat.Size - maxPoll
		f.restart()
		f.discard = true
	}
	f.readUpTo(stat.Size, l, now)
	if !replaced {
		return nil
	}
	if err := f.reopen(); err != nil {
		// Not there yet; looking through many descriptors has its price.
		f.failed++
		f.pause = min(1<<min(f.failed, 10), maxPause)
		return nil
	}
	f.failed = 0
	f.Rotations++
	end := f.offset
	f.offset = max(0, end-maxPoll)
	f.Skipped += uint64(f.offset)
	f.discard = f.offset > 0
	f.readUpTo(end, l, now)
	return nil
}

// sameTail tells whether what was read last is still there. If it is not, the
// file was truncated and has grown beyond the offset since.
func (f *file) sameTail() bool {
	if len(f.tail) == 0 {
		return true
	}
	var found [tailSize]byte
	n, _ := f.f.ReadAt(found[:len(f.tail)], f.offset-int64(len(f.tail)))
	return bytes.Equal(found[:n], f.tail)
}

// readUpTo reads from the offset to an end, as far as there is something.
func (f *file) readUpTo(end int64, l *lines, m moment) {
	for f.offset < end {
		have := copy(f.buffer, f.partial)
		n, err := f.f.ReadAt(f.buffer[have:min(int64(bufferSize), int64(have)+end-f.offset)], f.offset)
		if n == 0 {
			if err != nil && !errors.Is(err, io.EOF) {
				f.Unreadable = err
			}
			return
		}
		f.offset += int64(n)
		f.Bytes += uint64(n)
		f.take(f.buffer[:have+n], l, m)
	}
}

// take reads the whole lines of data, which begins at the beginning of one or,
// if the rest of a line is to be discarded, in it. It keeps what is over.
func (f *file) take(data []byte, l *lines, m moment) {
	f.tail = append(f.tail[:0], data[max(0, len(data)-tailSize):]...)
	if f.discard {
		at := bytes.IndexByte(data, '\n')
		if at < 0 {
			return
		}
		data, f.discard = data[at+1:], false
	}
	whole := bytes.LastIndexByte(data, '\n') + 1
	f.Lines += uint64(bytes.Count(data[:whole], []byte{'\n'}))
	l.read(data[:whole], m, &f.clock, f.counts)
	f.partial = append(f.partial[:0], data[whole:]...)
	if len(f.partial) > maxLine {
		l.read(f.partial[:maxLine], m, &f.clock, f.counts)
		f.partial, f.discard = f.partial[:0], true
	}
}
