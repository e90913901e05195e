package ordered

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"
)

// What is dropped leaves the rest as it was, whatever the order it came in.
func TestRecords(t *testing.T) {
	var r Records
	add := func(time uint64, size int) {
		raw := make([]byte, size)
		binary.NativeEndian.PutUint64(raw[8:], time)
		raw[size-1] = byte(time)
		if !r.Add(raw) {
			t.Fatalf("a record of %d bytes was refused", size)
		}
	}
	var got []uint64
	take := func(until uint64) {
		records := r.Until(until)
		for _, one := range records {
			if one.Time > until || binary.NativeEndian.Uint64(one.Bytes[8:]) != one.Time || one.Bytes[len(one.Bytes)-1] != byte(one.Time) {
				t.Errorf("until %d: the record of %d holds that of %d", until, one.Time, one.Bytes[len(one.Bytes)-1])
			}
			got = append(got, one.Time)
		}
		r.Drop(len(records))
	}
	add(5, 40)
	add(1, 17)
	add(9, 100)
	take(0)
	take(4)
	add(3, 20) // late
	add(7, 24)
	take(7)
	take(8)
	r.Flush(All, func(raw []byte) { got = append(got, binary.NativeEndian.Uint64(raw[8:])) })
	if want := []uint64{1, 3, 5, 7, 9}; !slices.Equal(got, want) || r.Bytes() != 0 || r.Len() != 0 {
		t.Errorf("%v, want %v; %d bytes are left", got, want, r.Bytes())
	}
	if r.Add(nil) || r.Add(make([]byte, 15)) || r.Len() != 0 {
		t.Error("a record without a time was taken")
	}
}

func TestSafeUntil(t *testing.T) {
	before := Now()
	looked := time.Now()
	after := Now()
	time.Sleep(time.Millisecond)
	// The clocks are read one after the other: a thread may be interrupted there.
	const interrupted = uint64(time.Second)
	if safe := SafeUntil(looked) + uint64(margin); safe+interrupted < before || safe > after {
		t.Errorf("looked at %d to %d: safe until %d and the margin", before, after, safe)
	}
}

// A record that is made where Add would put it stays there.
func TestRoom(t *testing.T) {
	var r Records
	for at := range uint64(100) {
		raw := r.Room()
		made := cap(raw) >= 24
		if made {
			raw = raw[:24]
		} else {
			raw = make([]byte, 24)
		}
		binary.NativeEndian.PutUint64(raw[8:], 1000-at)
		binary.NativeEndian.PutUint64(raw[16:], at)
		if !r.Add(raw) || r.Len() != int(at)+1 || r.Bytes() != 24*r.Len() {
			t.Fatalf("%d records of %d bytes", r.Len(), r.Bytes())
		}
		if last := r.bytes[len(r.bytes)-24:]; made != (&last[0] == &raw[0]) {
			t.Fatalf("record %d: made in place %v, but it was copied", at, made)
		}
	}
	for i, one := range r.Until(All) {
		if got := binary.NativeEndian.Uint64(one.Bytes[16:]); got != uint64(99-i) {
			t.Errorf("record %d is %d", i, got)
		}
	}
}
