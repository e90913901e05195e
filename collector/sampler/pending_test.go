package sampler

import (
	"encoding/binary"
	"slices"
	"testing"
)

// What is dropped leaves the rest as it was, whatever the order it came in.
func TestPendingKeepsTheRest(t *testing.T) {
	var p pending
	add := func(time uint64, size int) {
		raw := make([]byte, size)
		binary.LittleEndian.PutUint64(raw[8:], time)
		raw[size-1] = byte(time)
		p.add(raw)
	}
	var got []uint64
	take := func(until uint64) {
		p.sort()
		records := p.until(until)
		for _, r := range records {
			raw := p.bytes[r.from:r.to]
			if r.time > until || binary.LittleEndian.Uint64(raw[8:]) != r.time || raw[len(raw)-1] != byte(r.time) {
				t.Errorf("until %d: the record of %d holds that of %d", until, r.time, raw[len(raw)-1])
			}
			got = append(got, r.time)
		}
		p.drop(len(records))
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
	take(9)
	if want := []uint64{1, 3, 5, 7, 9}; !slices.Equal(got, want) || len(p.bytes) != 0 || len(p.records) != 0 {
		t.Errorf("%v, want %v; %d bytes are left", got, want, len(p.bytes))
	}
}
