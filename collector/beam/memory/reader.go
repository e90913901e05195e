package memory

import (
	"encoding/binary"
	"fmt"
)

// Reader is memory that can be read: of a Process, or recorded.
type Reader interface {
	// Read fills buf with the bytes at addr, or returns an error that wraps ErrUnreadable.
	Read(buf []byte, addr uint64) error
}

// Uint64 reads the 64-bit word at addr.
func Uint64(r Reader, addr uint64) (uint64, error) {
	b := make([]byte, 8)
	if err := r.Read(b, addr); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint64(b), nil
}

// Uint32 reads the 32-bit word at addr.
func Uint32(r Reader, addr uint64) (uint32, error) {
	b := make([]byte, 4)
	if err := r.Read(b, addr); err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint32(b), nil
}

// Words fills words with the 64-bit words at addr.
func Words(r Reader, words []uint64, addr uint64) error {
	b := make([]byte, 8*len(words))
	if err := r.Read(b, addr); err != nil {
		return err
	}
	for i := range words {
		words[i] = binary.NativeEndian.Uint64(b[8*i:])
	}
	return nil
}

// stringChunk is how many bytes String reads at a time. Reads are aligned to
// it, so none touches a page that the string does not reach.
const stringChunk = 64

// String reads the NUL-terminated string at addr, of at most max bytes
// without its NUL. A longer one is an error that wraps ErrUnreadable.
func String(r Reader, addr uint64, max int) (string, error) {
	var text []byte
	chunk := make([]byte, stringChunk)
	for at := addr; len(text) <= max; {
		part := chunk[:stringChunk-at%stringChunk]
		if err := r.Read(part, at); err != nil {
			return "", err
		}
		for i, c := range part {
			if c == 0 && len(text)+i <= max {
				return string(append(text, part[:i]...)), nil
			}
		}
		text = append(text, part...)
		at += uint64(len(part))
	}
	return "", fmt.Errorf("string at %#x: %w: longer than %d bytes", addr, ErrUnreadable, max)
}
