package beam

import (
	"encoding/binary"
	"fmt"
)

// maxBIFs bounds the built-in functions that are read; OTP 25.2.3 has 505.
const maxBIFs = 4096

// BIF returns the built-in function that a C function implements: the address
// of ets_lookup_2 is "ets:lookup/2".
func (t *Target) BIF(function uint64) (name string, ok bool) {
	name, ok = t.bifs[function]
	return name, ok
}

// readBIFs reads bif_table (bif.h), which is fixed when the emulator is built.
// Some C functions implement several (erlang:send/2, erlang:'!'/2): the first
// in the table is taken.
func (t *Target) readBIFs() (map[uint64]string, error) {
	table, ok := t.image.lookup("bif_table")
	if !ok {
		return nil, fmt.Errorf("%w: bif_table: %w", ErrUnsupported, errNoSymbol)
	}
	l := &t.Layout.BIF
	count := table.size / uint64(l.Size)
	if count == 0 || count > maxBIFs || table.size%uint64(l.Size) != 0 {
		return nil, fmt.Errorf("%w: bif_table has %d bytes, an element %d", ErrUnsupported, table.size, l.Size)
	}
	entries := make([]byte, table.size)
	if err := t.Memory.Read(entries, table.address); err != nil {
		return nil, fmt.Errorf("%w: bif_table: %w", ErrUnsupported, err)
	}
	bifs := make(map[uint64]string, count)
	for ; len(entries) > 0; entries = entries[l.Size:] {
		word := func(o Offset) uint64 { return binary.NativeEndian.Uint64(entries[o:]) }
		name, ok := t.name(mfa{word(l.Module), word(l.Name), uint64(binary.NativeEndian.Uint32(entries[l.Arity:]))})
		if !ok {
			return nil, fmt.Errorf("%w: bif_table has names that are no atoms", ErrUnsupported)
		}
		for _, function := range []uint64{word(l.Implementation), word(l.Function)} {
			if _, taken := bifs[function]; !taken {
				bifs[function] = name
			}
		}
	}
	return bifs, nil
}
