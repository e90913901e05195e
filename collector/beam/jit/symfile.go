package jit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The structs of erts/emulator/beam/jit/beam_jit_metadata.cpp, OTP 25.2.3. The
// target has this host's byte order. Names end with a NUL that their length
// counts. A name starts where its struct's flexible array member does, but
// the next struct follows after the padded size and the name's length.
const (
	debugInfoSize = 32 // struct debug_info, with either payload

	headerEmulator = 0 // DEBUG_INFO_HEADER_EMULATOR
	emulatorLayout = 8
	emulatorExit   = 16

	headerModule     = 1 // DEBUG_INFO_HEADER_MODULE
	moduleBase       = 8
	moduleRangeCount = 16
	moduleCodeSize   = 20
	moduleNameLength = 24
	moduleName       = 26

	rangeInfoSize   = 16 // struct range_info
	rangeStart      = 0
	rangeEnd        = 4
	rangeLineCount  = 8
	rangeNameLength = 12
	rangeName       = 14

	lineInfoSize   = 12 // struct line_info
	lineStart      = 0
	lineNumber     = 4
	lineFileLength = 8
	lineFile       = 10

	otp24EmulatorSize = 16 // the emulator's symfile in OTP 24 (x86/beam_asm.cpp)
)

var order = binary.NativeEndian

// emulatorInfo is the content of the one symfile that is not a module's.
type emulatorInfo struct {
	frameLayout int
	normalExit  uint64
}

// parseSymfile reads one symfile: it has emulator information or a module. Every
// length is checked, and the structs must fill the symfile exactly. Names and
// lines are left where they are, for Lookup to read those that are asked for.
func parseSymfile(b []byte) (*emulatorInfo, *module, error) {
	if len(b) == otp24EmulatorSize {
		return nil, nil, fmt.Errorf("%w: a symfile of OTP 24", ErrLayout)
	}
	if len(b) < debugInfoSize {
		return nil, nil, fmt.Errorf("symfile of %d bytes", len(b))
	}
	switch header := order.Uint32(b); header {
	case headerEmulator:
		info, err := parseEmulator(b)
		return info, nil, err
	case headerModule:
		m, err := parseModule(b)
		return nil, m, err
	default:
		return nil, nil, fmt.Errorf("%w: symfile with header %d", ErrLayout, header)
	}
}

func parseEmulator(b []byte) (*emulatorInfo, error) {
	layout, exit := order.Uint32(b[emulatorLayout:]), order.Uint64(b[emulatorExit:])
	if len(b) != debugInfoSize || layout > 1 || exit == 0 {
		return nil, fmt.Errorf("emulator information of %d bytes with frame layout %d and normal exit %#x", len(b), layout, exit)
	}
	return &emulatorInfo{frameLayout: int(layout), normalExit: exit}, nil
}

func parseModule(b []byte) (*module, error) {
	name, rest, err := cut(b, debugInfoSize, moduleNameLength, moduleName)
	if err != nil {
		return nil, fmt.Errorf("module name: %w", err)
	}
	m := &module{name: clean(string(name)), base: order.Uint64(b[moduleBase:])}
	size, count := order.Uint32(b[moduleCodeSize:]), order.Uint32(b[moduleRangeCount:])
	if m.base == 0 || m.base+uint64(size) < m.base {
		return nil, fmt.Errorf("module %s: %d bytes of code at %#x", m.name, size, m.base)
	}
	if uint64(count)*rangeInfoSize > uint64(len(rest)) {
		return nil, fmt.Errorf("module %s: %d ranges in %d bytes", m.name, count, len(rest))
	}
	m.ranges = make([]codeRange, 0, count)
	for i := range count {
		r := codeRange{at: uint32(len(b) - len(rest))}
		var lines int
		if rest, lines, err = r.parse(rest, size); err != nil {
			return nil, fmt.Errorf("module %s: range %d: %w", m.name, i, err)
		}
		m.ranges = append(m.ranges, r)
		m.lineCount += lines
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("module %s: %d bytes after its ranges", m.name, len(rest))
	}
	m.symfile = string(b)
	m.finish()
	return m, nil
}

// parse reads the range that b begins with, and its lines, in code of the given
// size. It returns what follows.
func (r *codeRange) parse(b []byte, size uint32) (rest []byte, lines int, err error) {
	_, rest, err = cut(b, rangeInfoSize, rangeNameLength, rangeName)
	if err != nil {
		return nil, 0, err
	}
	r.start, r.end = order.Uint32(b[rangeStart:]), order.Uint32(b[rangeEnd:])
	count := order.Uint32(b[rangeLineCount:])
	if r.start > r.end || r.end > size {
		return nil, 0, fmt.Errorf("from %#x to %#x in code of %#x bytes", r.start, r.end, size)
	}
	if uint64(count)*lineInfoSize > uint64(len(rest)) {
		return nil, 0, fmt.Errorf("%d lines in %d bytes", count, len(rest))
	}
	for range count {
		line := rest
		if _, rest, err = cut(line, lineInfoSize, lineFileLength, lineFile); err != nil {
			return nil, 0, fmt.Errorf("line: %w", err)
		}
		if start := order.Uint32(line[lineStart:]); start > size {
			return nil, 0, fmt.Errorf("line at %#x in code of %#x bytes", start, size)
		}
	}
	return rest, int(count), nil
}

// cut takes a struct of the given size and the name that belongs to it off b;
// lengthAt and nameAt are the offsets of the name's length and of the name.
// The name is returned up to its first NUL, as C sees it.
func cut(b []byte, size, lengthAt, nameAt int) (name, rest []byte, err error) {
	if len(b) < size {
		return nil, nil, fmt.Errorf("%d bytes where a struct has %d", len(b), size)
	}
	length := int(order.Uint16(b[lengthAt:]))
	if length == 0 || size+length > len(b) {
		return nil, nil, fmt.Errorf("a name of %d bytes in %d", length, len(b)-size)
	}
	name = b[nameAt : nameAt+length]
	if name[length-1] != 0 {
		return nil, nil, errors.New("a name without its end")
	}
	return name[:bytes.IndexByte(name, 0)], b[size+length:], nil
}
