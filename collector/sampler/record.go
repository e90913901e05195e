package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/beam"
)

// record is one sample as the kernel side took it: the header and its payload
// cut into parts. The parts point into the buffer it was read from.
type record struct {
	bpf.Header
	head     []byte // first bytes of struct process, or empty
	kernel   []byte // kernel stack, 64-bit program counters, leaf first
	boundary []byte // what lies right below the base of the scheduler's C stack
	cStack   []byte // C stack from the stack pointer up
	decoding []byte // what the frames that decode a message of another node work on
	root     []byte // Erlang stack next to its root
	top      []byte // Erlang stack at its top, if the root part does not reach it
	terms    []byte // tuples that words of the root part point to, as bpf.Term
	callers  []byte // processes that wait for this one, as bpf.Caller, stack and terms each
}

var errShortRecord = errors.New("record shorter than it says")

// parse cuts raw into r. raw comes from our own program, but its lengths are
// checked all the same.
func (r *record) parse(raw []byte) error {
	size := int(unsafe.Sizeof(r.Header))
	if len(raw) < size {
		return fmt.Errorf("%w: %d bytes", errShortRecord, len(raw))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&r.Header)), size), raw)
	payload := raw[size:]
	for _, part := range []struct {
		to     *[]byte
		length uint32
	}{
		{&r.head, r.ProcessLength}, {&r.kernel, r.KernelLength}, {&r.boundary, r.BoundaryLength},
		{&r.cStack, r.C_stackLength}, {&r.decoding, r.DecodeLength}, {&r.root, r.RootLength}, {&r.top, r.TopLength}, {&r.terms, r.TermsLength},
		{&r.callers, r.CallersLength},
	} {
		if int64(part.length) > int64(len(payload)) {
			return fmt.Errorf("%w: a part of %d bytes, %d left", errShortRecord, part.length, len(payload))
		}
		*part.to = payload[:part.length:part.length]
		payload = payload[part.length:]
	}
	return nil
}

// headWord returns the 64-bit word at an offset of struct process.
func (r *record) headWord(offset beam.Offset) uint64 { return wordAt(r.head, offset) }

// wordAt returns the 64-bit word at an offset of a copied struct, or 0 outside.
func wordAt(bytes []byte, offset beam.Offset) uint64 {
	if offset < 0 || int(offset)+8 > len(bytes) {
		return 0
	}
	return binary.LittleEndian.Uint64(bytes[offset:])
}

// recordType returns the type of a raw record.
func recordType(raw []byte) uint32 {
	if len(raw) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(raw)
}
