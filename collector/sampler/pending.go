package sampler

import (
	"encoding/binary"
	"slices"
)

// pending holds records between reading and handling. Each CPU has a buffer of
// its own; only together can they be put into the order of their times, which
// tells what code was loaded when a sample was taken.
type pending struct {
	bytes   []byte
	records []pendingRecord
}

type pendingRecord struct {
	time     uint64
	from, to int
}

// What is held is handled soon if it is more than pendingBytes, and at once,
// whatever the order, if it is more than maxPending.
const (
	pendingBytes = 4 << 20
	maxPending   = 64 << 20
)

// add copies a record. Both record types have their time at byte 8.
func (p *pending) add(raw []byte) {
	if len(raw) < 16 {
		return
	}
	from := len(p.bytes)
	p.bytes = append(p.bytes, raw...)
	p.records = append(p.records, pendingRecord{binary.LittleEndian.Uint64(raw[8:]), from, len(p.bytes)})
}

func (p *pending) full() bool    { return len(p.bytes) >= pendingBytes }
func (p *pending) tooFull() bool { return len(p.bytes) >= maxPending }

func (p *pending) sort() {
	slices.SortStableFunc(p.records, func(a, b pendingRecord) int {
		switch {
		case a.time < b.time:
			return -1
		case a.time > b.time:
			return 1
		}
		return 0
	})
}

// until returns the records up to a time; they must be sorted.
func (p *pending) until(time uint64) []pendingRecord {
	n, _ := slices.BinarySearchFunc(p.records, time, func(r pendingRecord, time uint64) int {
		if r.time <= time {
			return -1
		}
		return 1
	})
	return p.records[:n]
}

// drop drops the first n records.
func (p *pending) drop(n int) {
	if n == len(p.records) {
		p.bytes, p.records = p.bytes[:0], p.records[:0]
		return
	}
	var kept []byte
	for i := range p.records[n:] {
		r := &p.records[n+i]
		from := len(kept)
		kept = append(kept, p.bytes[r.from:r.to]...)
		r.from, r.to = from, len(kept)
	}
	p.bytes = append(p.bytes[:0], kept...)
	p.records = slices.Delete(p.records, 0, n)
}
