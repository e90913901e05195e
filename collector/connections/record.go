package connections

import (
	"encoding/binary"
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
