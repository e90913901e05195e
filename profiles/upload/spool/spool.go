// Package spool keeps a queue of payloads on disk: bounded, oldest first, and
// whole after a SIGKILL or a power cut at any moment.
//
// Each payload is a file of its own, written under a temporary name, synced and
// renamed, so that damage to one costs that one. Its name has its number and its
// time; its content begins with a checksum.
//
// A database in one memory-mapped file was tried instead: a page that is missing
// from its end ends the whole process with SIGBUS, and space is never given back.
package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/wholefile"
)

// Why a payload was dropped.
const (
	ReasonFull    = "queue_full" // to make room for newer ones
	ReasonAge     = "too_old"
	ReasonDamaged = "damaged" // the file is not what was written
)

// Limits bound a queue.
type Limits struct {
	MaxBytes int64         // sum of the payloads
	MaxAge   time.Duration // since the payload's time
}

// Queue is a directory of payloads. It is safe for concurrent use by one process.
type Queue struct {
	dir     string
	dropped func(reason string)
	lock    *os.File

	push sync.Mutex // one Push at a time, so that numbers are in the order of names

	mu      sync.Mutex
	limits  Limits
	entries []entry
	bytes   int64
	next    uint64
	held    uint64 // number of the payload that is being worked on, 0 if none
}

type entry struct {
	number uint64 // from 1
	at     time.Time
	size   int64 // of the payload
}

const (
	suffix     = ".spool"
	temporary  = ".new"
	magic      = "beamspl1"
	headerSize = len(magic) + 4 // magic, CRC-32C of the payload
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrLocked means that another process has the queue.
var ErrLocked = errors.New("another process uses this spool")

// Open opens the queue in a directory, which is made if it is missing, and
// removes what an interrupted Push left. dropped is called for each payload
// that is given up; it must not call the queue.
func Open(dir string, limits Limits, dropped func(reason string)) (*Queue, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the spool: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	q := &Queue{dir: dir, limits: limits, dropped: dropped, lock: lock, next: 1}
	if err := q.load(); err != nil {
		lock.Close()
		return nil, fmt.Errorf("read the spool: %w", err)
	}
	return q, nil
}

func (q *Queue) load() error {
	files, err := os.ReadDir(q.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), temporary) {
			if err := os.Remove(filepath.Join(q.dir, f.Name())); err != nil {
				return err
			}
			continue
		}
		e, ok := parseName(f.Name())
		if !ok {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return err
		}
		e.size = max(info.Size()-int64(headerSize), 0)
		q.entries = append(q.entries, e)
		q.bytes += e.size
		q.next = max(q.next, e.number+1)
	}
	slices.SortFunc(q.entries, func(a, b entry) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return nil
}

func (e entry) name() string { return fmt.Sprintf("%016x-%d%s", e.number, e.at.UnixNano(), suffix) }

func parseName(name string) (entry, bool) {
	var number uint64
	var nanoseconds int64
	if _, err := fmt.Sscanf(name, "%016x-%d"+suffix, &number, &nanoseconds); err != nil || number == 0 || number == 1<<64-1 {
		return entry{}, false
	}
	e := entry{number: number, at: time.Unix(0, nanoseconds)}
	return e, e.name() == name
}

// SetLimits changes the limits; they take effect with the next Push or Next.
func (q *Queue) SetLimits(limits Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = limits
}

// Push adds a payload of a time. When it returns nil the payload outlives a
// power cut. If the queue is full the oldest make room.
func (q *Queue) Push(at time.Time, payload []byte) error {
	q.push.Lock()
	defer q.push.Unlock()
	q.mu.Lock()
	e := entry{number: q.next, at: at, size: int64(len(payload))}
	fits := e.size <= q.limits.MaxBytes
	for fits && q.bytes+e.size > q.limits.MaxBytes {
		fits = q.evict()
	}
	if fits {
		q.next++
	}
	q.mu.Unlock()
	if !fits {
		q.dropped(ReasonFull)
		return nil
	}
	name := filepath.Join(q.dir, e.name())
	if err := wholefile.Write(name, name+temporary, encode(payload), 0o600); err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.entries = append(q.entries, e)
	q.bytes += e.size
	return nil
}

// evict drops the oldest payload that is not being worked on.
func (q *Queue) evict() bool {
	for i, e := range q.entries {
		if e.number != q.held {
			q.remove(i)
			q.dropped(ReasonFull)
			return true
		}
	}
	return false
}

func encode(payload []byte) []byte {
	b := make([]byte, 0, headerSize+len(payload))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// decode is the reverse of encode; ok is false if a bit is wrong.
func decode(content []byte) (payload []byte, ok bool) {
	if len(content) < headerSize || string(content[:len(magic)]) != magic {
		return nil, false
	}
	payload = content[headerSize:]
	return payload, crc32.Checksum(payload, castagnoli) == binary.LittleEndian.Uint32(content[len(magic):])
}

// Item is a payload in the queue.
type Item struct {
	Number  uint64
	At      time.Time
	Payload []byte
}

// Next returns the oldest payload whose number is above after, or nil if there
// is none. It is held: Push does not drop it to make room until the next call.
// Payloads that are too old or damaged are dropped on the way.
func (q *Queue) Next(after uint64, now time.Time) (*Item, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = 0
	for i := 0; i < len(q.entries); {
		e := q.entries[i]
		if q.limits.MaxAge > 0 && now.Sub(e.at) > q.limits.MaxAge {
			q.remove(i)
			q.dropped(ReasonAge)
			continue
		}
		if e.number <= after {
			i++
			continue
		}
		content, err := os.ReadFile(filepath.Join(q.dir, e.name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read from the spool: %w", err)
		}
		payload, ok := decode(content)
		if !ok {
			q.remove(i)
			q.dropped(ReasonDamaged)
			continue
		}
		q.held = e.number
		return &Item{Number: e.number, At: e.at, Payload: payload}, nil
	}
	return nil, nil
}

// Remove removes a payload and tells whether it was still there.
func (q *Queue) Remove(number uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, e := range q.entries {
		if e.number == number {
			q.remove(i)
			return true
		}
	}
	return false
}

func (q *Queue) remove(i int) {
	e := q.entries[i]
	// What cannot be removed would be there again after a restart, and be sent twice.
	os.Remove(filepath.Join(q.dir, e.name()))
	wholefile.SyncDir(q.dir)
	q.entries = slices.Delete(q.entries, i, i+1)
	q.bytes -= e.size
}

// Size returns how much is in the queue, and the time of the oldest payload.
func (q *Queue) Size() (payloads int, bytes int64, oldest time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.entries) > 0 {
		oldest = q.entries[0].at
	}
	return len(q.entries), q.bytes, oldest
}

// Close gives the directory free for another process. Nothing may be called afterwards.
func (q *Queue) Close() error { return q.lock.Close() }
