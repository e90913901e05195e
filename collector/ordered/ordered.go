// Package ordered puts the records of BPF programs into the order of their times.
// Each CPU has an output buffer of its own, and buffers are read one after the
// other: what is older may come later.
package ordered

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// margin is how long a record may be under way, from when its time was taken to
// when it is in the buffer.
const margin = 10 * time.Millisecond

// Record is one record. Its bytes are valid until others are dropped.
type Record struct {
	Time  uint64 // nanoseconds of CLOCK_MONOTONIC
	Bytes []byte
}

// Records holds records between reading and handling. The zero value is empty.
type Records struct {
	bytes  []byte
	places []place
	ready  []Record
}

type place struct {
	time     uint64
	from, to int
}

// firstRoom is how much room there is from the first record on, in bytes: memory
// that grows from little is copied, and touched, several times over.
const firstRoom = 1 << 20

// timeAt is where all records have their time, in bytes.
const timeAt = 8

// Room returns where Add will put the next record, with as much capacity as is
// free there: a record that is made in it is not copied.
func (r *Records) Room() []byte { return r.bytes[len(r.bytes):] }

// Add copies a record. It reports false if that is too short to have a time.
func (r *Records) Add(raw []byte) bool {
	if len(raw) < timeAt+8 {
		return false
	}
	from := len(r.bytes)
	if room := r.Room(); cap(room) >= len(raw) && unsafe.SliceData(room) == unsafe.SliceData(raw) {
		r.bytes = r.bytes[:from+len(raw)]
	} else {
		if cap(room) < len(raw) {
			r.bytes = slices.Grow(r.bytes, max(len(raw), cap(r.bytes), firstRoom))
		}
		r.bytes = append(r.bytes, raw...)
	}
	r.places = append(r.places, place{binary.NativeEndian.Uint64(raw[timeAt:]), from, len(r.bytes)})
	return true
}

// Bytes is how many bytes are held.
func (r *Records) Bytes() int { return len(r.bytes) }

// Len is how many records are held.
func (r *Records) Len() int { return len(r.places) }

// All is the time up to which Until returns all records.
const All = math.MaxUint64

// SafeUntil returns up to which time no older record can come any more, if all
// buffers were looked at after a time.
func SafeUntil(looked time.Time) uint64 {
	return monotonic(looked.Add(-margin))
}

// monotonic returns a time as nanoseconds of CLOCK_MONOTONIC.
func monotonic(at time.Time) uint64 {
	return uint64(int64(Now()) - time.Since(at).Nanoseconds())
}

// Now returns CLOCK_MONOTONIC in nanoseconds: the clock of records.
func Now() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err) // there is no Linux without it
	}
	return uint64(now.Nano())
}

// Until returns the records up to a time, oldest first, and goes on holding them.
func (r *Records) Until(time uint64) []Record {
	slices.SortStableFunc(r.places, func(a, b place) int { return cmp.Compare(a.time, b.time) })
	r.ready = r.ready[:0]
	for _, p := range r.places {
		if p.time > time {
			break
		}
		r.ready = append(r.ready, Record{p.time, r.bytes[p.from:p.to]})
	}
	return r.ready
}

// Drop drops the first n of the records that Until returned.
func (r *Records) Drop(n int) {
	kept := r.places[n:]
	if len(kept) == 0 {
		r.bytes, r.places = r.bytes[:0], r.places[:0]
		return
	}
	var bytes []byte
	for i, p := range kept {
		from := len(bytes)
		bytes = append(bytes, r.bytes[p.from:p.to]...)
		kept[i].from, kept[i].to = from, len(bytes)
	}
	r.bytes = append(r.bytes[:0], bytes...)
	r.places = slices.Delete(r.places, 0, n)
}

// Flush calls f for the records up to a time, oldest first, and drops them.
func (r *Records) Flush(until uint64, f func(raw []byte)) {
	ready := r.Until(until)
	for _, one := range ready {
		f(one.Bytes)
	}
	r.Drop(len(ready))
}
