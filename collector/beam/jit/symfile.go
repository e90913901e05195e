package jit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
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

// parser reads symfiles. What it keeps between them saves memory: file names
// that many modules share, and room to work in.
type parser struct {
	files     map[string]string // printable name by the VM's
	fileBytes int

	// of the module being read
	m     *module
	rest  []byte // not read yet
	lines []line
	text  []byte
	slots map[string]uint32 // index in m.files by the VM's name
	file  []byte            // the last line's, the most likely one of the next
	slot  uint32
}

// fileBytesLimit is when names are forgotten: only a target that means no good has as many.
const fileBytesLimit = 16 << 20

// symfile reads one symfile: it has emulator information or a module. Every
// length is checked, and the structs must fill the symfile exactly.
func (p *parser) symfile(b []byte) (*emulatorInfo, *module, error) {
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
		m, err := p.module(b)
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

func (p *parser) module(b []byte) (*module, error) {
	name, rest, err := cut(b, debugInfoSize, moduleNameLength, moduleName)
	if err != nil {
		return nil, fmt.Errorf("module name: %w", err)
	}
	raw := string(name)
	m := &module{name: clean(raw), base: order.Uint64(b[moduleBase:])}
	size, count := order.Uint32(b[moduleCodeSize:]), order.Uint32(b[moduleRangeCount:])
	if m.base == 0 || m.base+uint64(size) < m.base {
		return nil, fmt.Errorf("module %s: %d bytes of code at %#x", m.name, size, m.base)
	}
	if uint64(count)*rangeInfoSize > uint64(len(rest)) {
		return nil, fmt.Errorf("module %s: %d ranges in %d bytes", m.name, count, len(rest))
	}
	m.ranges = make([]codeRange, 0, count)
	p.m, p.rest, p.lines, p.text, p.file = m, rest, p.lines[:0], p.text[:0], nil
	clear(p.slots)
	for i := range count {
		if err := p.codeRange(raw, size); err != nil {
			return nil, fmt.Errorf("module %s: range %d: %w", m.name, i, err)
		}
	}
	if len(p.rest) != 0 {
		return nil, fmt.Errorf("module %s: %d bytes after its ranges", m.name, len(p.rest))
	}
	m.lines, m.text = slices.Clone(p.lines), string(p.text)
	m.finish()
	return m, nil
}

// codeRange reads one range with its lines.
func (p *parser) codeRange(module string, size uint32) error {
	b := p.rest
	name, rest, err := cut(b, rangeInfoSize, rangeNameLength, rangeName)
	if err != nil {
		return err
	}
	r := codeRange{start: order.Uint32(b[rangeStart:]), end: order.Uint32(b[rangeEnd:]), firstLine: uint32(len(p.lines)), lineCount: order.Uint32(b[rangeLineCount:])}
	if r.start > r.end || r.end > size {
		return fmt.Errorf("from %#x to %#x in code of %#x bytes", r.start, r.end, size)
	}
	if uint64(r.lineCount)*lineInfoSize > uint64(len(rest)) {
		return fmt.Errorf("%d lines in %d bytes", r.lineCount, len(rest))
	}
	p.names(&r, module, name)
	p.rest = rest
	for range r.lineCount {
		if err := p.line(size); err != nil {
			return err
		}
	}
	if lines := p.lines[r.firstLine:]; !slices.IsSortedFunc(lines, byStart) {
		slices.SortStableFunc(lines, byStart)
	}
	p.m.ranges = append(p.m.ranges, r)
	return nil
}

// names stores the names of a range; name is the VM's.
func (p *parser) names(r *codeRange, module string, name []byte) {
	r.raw = p.put(name)
	raw := string(name)
	kind, base := kindOf(module, raw)
	r.kind = kind
	if display := displayName(module, base); display == base {
		r.display = span{r.raw.start, uint32(len(base))} // base is a prefix of raw
	} else {
		r.display = p.put([]byte(display))
	}
}

// put appends a string to the module's text.
func (p *parser) put(s []byte) span {
	start := uint32(len(p.text))
	p.text = append(p.text, s...)
	return span{start, uint32(len(s))}
}

func (p *parser) line(size uint32) error {
	b := p.rest
	file, rest, err := cut(b, lineInfoSize, lineFileLength, lineFile)
	if err != nil {
		return fmt.Errorf("line: %w", err)
	}
	start := order.Uint32(b[lineStart:])
	if start > size {
		return fmt.Errorf("line at %#x in code of %#x bytes", start, size)
	}
	if p.file == nil || !bytes.Equal(file, p.file) {
		p.file, p.slot = file, p.fileSlot(file)
	}
	p.lines = append(p.lines, line{start: start, number: order.Uint32(b[lineNumber:]), file: p.slot})
	p.rest = rest
	return nil
}

// fileSlot returns the index of a file in the module's files.
func (p *parser) fileSlot(file []byte) uint32 {
	if slot, ok := p.slots[string(file)]; ok {
		return slot
	}
	if p.slots == nil {
		p.slots = make(map[string]uint32)
	}
	raw, ok := string(file), false
	var name string
	if name, ok = p.files[raw]; !ok {
		name = clean(raw)
		if p.fileBytes += len(raw); p.files == nil || p.fileBytes > fileBytesLimit {
			p.files, p.fileBytes = make(map[string]string), len(raw)
		}
		p.files[raw] = name
	}
	slot := uint32(len(p.m.files))
	p.m.files = append(p.m.files, name)
	p.slots[raw] = slot
	return slot
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
