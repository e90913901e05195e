package native

import (
	"bytes"
	"encoding/binary"
)

// cursor reads little-endian values one after the other. Reading past the end
// yields zeros and sets bad, so callers check once, at the end of an entry.
type cursor struct {
	data []byte
	at   int
	bad  bool
}

// take returns the next n bytes, or nil if there are fewer.
func (c *cursor) take(n uint64) []byte {
	if c.bad || n > uint64(len(c.data)-c.at) {
		c.bad = true
		return nil
	}
	b := c.data[c.at : c.at+int(n)]
	c.at += int(n)
	return b
}

func (c *cursor) empty() bool { return c.bad || c.at >= len(c.data) }

func (c *cursor) u8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// maxLEB128 is the length of the longest encoding of 64 bits that is accepted.
const maxLEB128 = 10

// uleb reads an unsigned LEB128 number (DWARF 5, section 7.6).
func (c *cursor) uleb() uint64 {
	var value uint64
	for i := range maxLEB128 {
		b := c.u8()
		value |= uint64(b&0x7f) << (7 * i)
		if b&0x80 == 0 {
			return value
		}
	}
	c.bad = true
	return 0
}

// sleb reads a signed LEB128 number (DWARF 5, section 7.6).
func (c *cursor) sleb() int64 {
	var value int64
	for i := range maxLEB128 {
		b := c.u8()
		shift := 7 * i
		value |= int64(b&0x7f) << shift
		if b&0x80 != 0 {
			continue
		}
		if b&0x40 != 0 && shift+7 < 64 {
			value |= -1 << (shift + 7)
		}
		return value
	}
	c.bad = true
	return 0
}

// cstring reads a NUL-terminated string; the result shares the cursor's bytes.
func (c *cursor) cstring() []byte {
	if c.bad {
		return nil
	}
	n := bytes.IndexByte(c.data[c.at:], 0)
	if n < 0 {
		c.bad = true
		return nil
	}
	b := c.data[c.at : c.at+n]
	c.at += n + 1
	return b
}
