package distribution

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
)

// record is what the kernel side copied of one message.
type record struct {
	bpf.Message
	root, top, terms []byte   // sent: the stack, the terms
	data             []byte   // received: the first bytes
	atoms            []uint64 // received: those named by number, as the VM's cache had them
}

const messageHeadSize = int(unsafe.Sizeof(bpf.Message{}))

var errRecord = errors.New("a record of the distribution's probes that makes no sense")

// further tells whether it is of a packet that is not the first of its message.
func (r *record) further() bool {
	return r.Type == bpf.RecordReceived && len(r.data) == 0 && r.Sequence != 0
}

// parse reads a record; its parts are those of raw.
func (r *record) parse(raw []byte) error {
	atoms := r.atoms[:0]
	*r = record{}
	if len(raw) < messageHeadSize {
		return errRecord
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r.Message)), messageHeadSize), raw)
	if r.Type != bpf.RecordSent && r.Type != bpf.RecordReceived {
		return errRecord
	}
	rest := raw[messageHeadSize:]
	if uint64(len(rest)) < r.Payload {
		return errRecord
	}
	rest = rest[:r.Payload]
	take := func(length uint32) []byte {
		part := rest[:min(uint64(length), uint64(len(rest)))]
		rest = rest[len(part):]
		return part
	}
	r.root, r.top, r.terms = take(r.RootLength), take(r.TopLength), take(r.TermsLength)
	r.data = take(r.DataLength)
	take(-r.DataLength & 7) // up to the next word
	for part := take(r.AtomsLength); len(part) >= 8; part = part[8:] {
		atoms = append(atoms, binary.NativeEndian.Uint64(part))
	}
	r.atoms = atoms
	return nil
}
