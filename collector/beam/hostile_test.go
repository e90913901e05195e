package beam

import (
	"encoding/binary"
	"fmt"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// hostile is memory whose content somebody chose: data is repeated over the
// addresses from 4096 on, so that every pointer leads somewhere.
type hostile struct {
	data  []byte
	reads int
}

func (h *hostile) Read(buf []byte, addr uint64) error {
	h.reads++
	if len(h.data) == 0 || addr < 4096 || addr+uint64(len(buf)) < addr {
		return fmt.Errorf("hostile memory at %#x: %w", addr, memory.ErrUnreadable)
	}
	for i := range buf {
		buf[i] = h.data[(addr+uint64(i))%uint64(len(h.data))]
	}
	return nil
}

// segment is memory of words at one address.
type segment struct {
	at    uint64
	words []uint64
}

// segments is memory made of a few known pieces.
type segments []segment

func (s segments) Read(buf []byte, addr uint64) error {
	for _, part := range s {
		data := make([]byte, 0, 8*len(part.words))
		for _, word := range part.words {
			data = binary.NativeEndian.AppendUint64(data, word)
		}
		if addr >= part.at && addr-part.at+uint64(len(buf)) <= uint64(len(data)) {
			copy(buf, data[addr-part.at:])
			return nil
		}
	}
	return fmt.Errorf("%d bytes at %#x: %w", len(buf), addr, memory.ErrUnreadable)
}
