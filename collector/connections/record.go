package connections

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
)

// record is what the kernel side says of one event: of a socket, or of what was
// said first.
type record struct {
	bpf.ConnectionRecord
	speech *speech // nil if it is of a socket
}

const recordSize = int(unsafe.Sizeof(bpf.ConnectionRecord{}))

// parse reads a record. It tells whether it makes sense.
func (r *record) parse(raw []byte) bool {
	if len(raw) < recordSize {
		return false
	}
	if binary.NativeEndian.Uint32(raw) != bpf.RecordConnection {
		r.speech = &speech{}
		ok := r.speech.parse(raw)
		r.Type, r.Time, r.Ends = r.speech.Type, r.speech.Time, bpf.Endpoints(r.speech.Ends)
		return ok
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r.ConnectionRecord)), recordSize), raw)
	return true
}

// pending holds records until none can come that is older. Each CPU has a buffer
// of its own; only together can they be put into the order of their times.
type pending []record

// maxPending is when records are handled before it is time.
const maxPending = 1 << 16

// overtaking is how long the kernel side takes at most from looking at the clock
// until a record can be read.
const overtaking = time.Millisecond

func (p *pending) add(raw []byte) bool {
	var r record
	if !r.parse(raw) {
		return false
	}
	*p = append(*p, r)
	return true
}

// flush calls f for each record up to a time, in the order of their times, and
// forgets them.
func (p *pending) flush(limit uint64, f func(*record)) {
	all := *p
	slices.SortStableFunc(all, func(a, b record) int { return cmp.Compare(a.Time, b.Time) })
	n := 0
	for n < len(all) && all[n].Time <= limit {
		f(&all[n])
		n++
	}
	*p = all[:copy(all, all[n:])]
	clear(all[len(*p):])
}
