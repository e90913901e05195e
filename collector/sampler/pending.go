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

const pendingBytes = 4 << 20

// add copies a record. Both record types have their time at byte 8.
func (p *pending) add(raw []byte) {
	if len(raw) < 16 {
		return
	}
	from := len(p.bytes)
	p.bytes = append(p.bytes, raw...)
	p.records = append(p.records, pendingRecord{binary.LittleEndian.Uint64(raw[8:]), from, len(p.bytes)})
}

func (p *pending) full() bool { return len(p.bytes) >= pendingBytes }

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

func (p *pending) reset() { p.bytes, p.records = p.bytes[:0], p.records[:0] }
