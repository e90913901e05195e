package native

import (
	"errors"
	"fmt"
)

// commonEntry is what several functions' entries share (CIE).
type commonEntry struct {
	codeAlignment   uint64
	dataAlignment   int64
	returnAddress   uint64 // DWARF number of the return address column
	pointerEncoding uint8  // of addresses in the FDEs
	augmented       bool   // the FDEs have augmentation data
	signal          bool   // the frame was interrupted by a signal, it did not call
	instructions    []byte
}

// frameEntry describes how to unwind from each address of a function (FDE).
type frameEntry struct {
	common       *commonEntry
	start, size  uint64 // vaddr and bytes
	instructions []byte
	address      uint64 // vaddr of instructions
}

// maxCommon bounds how many common entries are kept; objects have one to some dozen.
const maxCommon = 256

var errMalformed = errors.New("malformed .eh_frame")

// parseFrame parses the FDE at a vaddr, given its bytes after the length
// field: Linux Standard Base 5.0, core, section 10.6.1.
func (t *frameTable) parseFrame(vaddr uint64, data []byte) (*frameEntry, error) {
	c := pointerReader{cursor: cursor{data: data}, address: vaddr + 4}
	back := c.u32()
	if c.bad || back == 0 {
		return nil, errMalformed // a common entry has 0 here
	}
	common, err := t.commonAt(vaddr + 4 - uint64(back))
	if err != nil {
		return nil, err
	}
	f := &frameEntry{common: common}
	f.start = c.pointer(common.pointerEncoding)
	f.size = c.pointer(common.pointerEncoding & pointerFormat)
	if common.augmented {
		c.take(c.uleb()) // where the exception tables are
	}
	if c.bad {
		return nil, errMalformed
	}
	f.address = vaddr + 4 + uint64(c.at)
	f.instructions = data[c.at:]
	return f, nil
}

func (t *frameTable) commonAt(vaddr uint64) (*commonEntry, error) {
	if entry, ok := t.common[vaddr]; ok {
		return entry, nil
	}
	_, data := t.entry(vaddr)
	entry, err := parseCommon(vaddr+4, data)
	if err != nil {
		return nil, err
	}
	if len(t.common) >= maxCommon {
		clear(t.common)
	}
	t.common[vaddr] = entry
	return entry, nil
}

// parseCommon parses a CIE whose bytes after the length field are at a vaddr.
func parseCommon(vaddr uint64, data []byte) (*commonEntry, error) {
	c := pointerReader{cursor: cursor{data: data}, address: vaddr}
	id, version := c.u32(), c.u8()
	augmentation := c.cstring()
	if c.bad || id != 0 || version != 1 && version != 3 {
		return nil, errMalformed
	}
	e := &commonEntry{codeAlignment: c.uleb(), dataAlignment: c.sleb()}
	if version == 1 {
		e.returnAddress = uint64(c.u8())
	} else {
		e.returnAddress = c.uleb()
	}
	if len(augmentation) > 0 {
		if augmentation[0] != 'z' {
			return nil, fmt.Errorf("%w: augmentation %.20q", errMalformed, augmentation)
		}
		e.augmented = true
		length := c.uleb()
		end := c
		end.take(length)
		e.augment(augmentation[1:], &c)
		if c.bad || end.bad || c.at > end.at {
			return nil, errMalformed
		}
		c = end
	}
	if c.bad || e.returnAddress >= registerCount {
		return nil, errMalformed
	}
	e.instructions = data[c.at:]
	return e, nil
}

// augment reads the augmentation data that the letters announce.
func (e *commonEntry) augment(letters []byte, c *pointerReader) {
	for _, letter := range letters {
		switch letter {
		case 'R':
			e.pointerEncoding = c.u8()
		case 'L':
			c.u8() // encoding of the exception tables' addresses
		case 'P':
			if encoding := c.u8(); encoding != pointerOmitted {
				c.pointer(encoding &^ pointerIndirect) // personality routine
			}
		case 'S':
			e.signal = true
		case 'B', 'G':
			// arm64: return addresses signed with key B; tagged stack. No data.
		default:
			return // the length told where the rest of the entry begins
		}
	}
}

// How a pointer is encoded: Linux Standard Base 5.0, core, section 10.5.1.
// The low four bits are its format, the next three what it is relative to.
const (
	pointerAbsolute     = 0x00
	pointerULEB128      = 0x01
	pointerUnsigned2    = 0x02
	pointerUnsigned4    = 0x03
	pointerUnsigned8    = 0x04
	pointerSLEB128      = 0x09
	pointerSigned2      = 0x0a
	pointerSigned4      = 0x0b
	pointerSigned8      = 0x0c
	pointerFormat       = 0x0f
	pointerRelative     = 0x10
	pointerDataRelative = 0x30
	pointerIndirect     = 0x80
	pointerOmitted      = 0xff
)

// pointerReader is a cursor that knows at which vaddr its bytes are.
type pointerReader struct {
	cursor
	address uint64 // vaddr of data[0]
	data    uint64 // vaddr of .eh_frame_hdr; 0 where nothing may be relative to it
}

// pointer reads an encoded pointer; an unsupported encoding sets bad.
func (p *pointerReader) pointer(encoding uint8) uint64 {
	if encoding == pointerOmitted {
		return 0
	}
	base := uint64(0)
	switch encoding &^ pointerFormat {
	case pointerAbsolute:
	case pointerRelative:
		base = p.address + uint64(p.at)
	case pointerDataRelative:
		base = p.data
		p.bad = p.bad || p.data == 0
	default: // relative to text or function, aligned, indirect: nothing writes these for code
		p.bad = true
	}
	switch encoding & pointerFormat {
	case pointerAbsolute, pointerUnsigned8, pointerSigned8:
		return base + p.u64()
	case pointerULEB128:
		return base + p.uleb()
	case pointerSLEB128:
		return base + uint64(p.sleb())
	case pointerUnsigned2:
		return base + uint64(p.u16())
	case pointerSigned2:
		return base + uint64(int64(int16(p.u16())))
	case pointerUnsigned4:
		return base + uint64(p.u32())
	case pointerSigned4:
		return base + uint64(int64(int32(p.u32())))
	}
	p.bad = true
	return 0
}
