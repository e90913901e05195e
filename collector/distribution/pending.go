package distribution

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// pending holds records between reading and decoding. Each CPU has a buffer of
// its own; only together can they be put into the order of their times, so that
// a reply comes behind the call, and the packets of a message one by one.
type pending struct {
	bytes   []byte
	records []pendingRecord
}

type pendingRecord struct {
	time     uint64
	from, to int
}

// pendingBytes is when records are handled before it is time.
const pendingBytes = 8 << 20

// add copies a record, which has its time at byte 8.
func (p *pending) add(raw []byte) {
	if len(raw) < 16 {
		return
	}
	from := len(p.bytes)
	p.bytes = append(p.bytes, raw...)
	p.records = append(p.records, pendingRecord{binary.NativeEndian.Uint64(raw[8:]), from, len(p.bytes)})
}

// flush calls f for each record in the order of their times, and forgets them.
func (p *pending) flush(f func(raw []byte)) {
	slices.SortStableFunc(p.records, func(a, b pendingRecord) int { return cmp.Compare(a.time, b.time) })
	for _, r := range p.records {
		f(p.bytes[r.from:r.to])
	}
	p.bytes, p.records = p.bytes[:0], p.records[:0]
}
