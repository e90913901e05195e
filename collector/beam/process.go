package beam

import (
	"encoding/binary"
	"fmt"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// maxProcesses is ERTS_PTAB_MAX_SIZE (erl_ptab.h): slots of erts_proc and erts_port.
const maxProcesses = 1 << 27

// table is what never changes of erts_proc or erts_port, the tables of all
// processes and ports.
type table struct {
	at        uint64 // its address
	slots     uint64 // address of the array of pointers
	max       uint32 // its length
	indexMask uint32
	invalid   uint64 // what a reserved slot points to

	lineMask, itemMask   uint32 // how numbers are spread over the slots
	lineShift, itemShift uint32
}

// readTable reads and checks the fixed part of erts_proc or erts_port.
func (t *Target) readTable(name string) (table, error) {
	at, ok := t.Symbol(name)
	if !ok {
		return table{}, fmt.Errorf("%w: %s: %w", ErrUnsupported, name, errNoSymbol)
	}
	l := &t.Layout.Table
	fixed := make([]byte, l.Size)
	if err := t.Memory.Read(fixed, at); err != nil {
		return table{}, fmt.Errorf("%w: %s: %w", ErrUnsupported, name, err)
	}
	p := table{
		at:        at,
		slots:     binary.NativeEndian.Uint64(fixed[l.Slots:]),
		max:       binary.NativeEndian.Uint32(fixed[l.Max:]),
		indexMask: binary.NativeEndian.Uint32(fixed[l.IndexMask:]),
		invalid:   binary.NativeEndian.Uint64(fixed[l.Invalid:]),
	}
	for field, offset := range map[*uint32]Offset{&p.lineMask: l.LineMask, &p.itemMask: l.ItemMask, &p.lineShift: l.LineShift, &p.itemShift: l.ItemShift} {
		*field = binary.NativeEndian.Uint32(fixed[offset:])
	}
	if p.max == 0 || p.max > maxProcesses || p.indexMask != p.max-1 {
		return p, fmt.Errorf("%w: %s has %d slots with mask %#x", ErrUnsupported, name, p.max, p.indexMask)
	}
	return p, nil
}

// slot returns the slot of the process table that a pid belongs to.
func (t *Target) slot(pid uint64) uint64 {
	return pid >> t.Layout.PID.IndexShift & uint64(t.processes.indexMask)
}

// ProcessByPID returns the address of the live process with a pid.
func (t *Target) ProcessByPID(pid uint64) (addr uint64, ok bool) {
	if !IsPID(pid) {
		return 0, false
	}
	addr, err := memory.Uint64(t.Memory, t.processes.slots+8*t.slot(pid))
	if err != nil || !t.isProcess(addr) {
		return 0, false
	}
	id, err := memory.Uint64(t.Memory, addr+uint64(t.Layout.Process.ID))
	return addr, err == nil && id == pid
}

// isProcess tells whether what a slot holds can be the address of a process:
// it may be empty, or reserved for one that is being made.
func (t *Target) isProcess(addr uint64) bool {
	return addr != 0 && addr%8 == 0 && addr != t.processes.invalid
}

// FormatPID returns a pid as the VM prints it: "<0.123.0>".
func (t *Target) FormatPID(term uint64) (string, bool) {
	if !IsPID(term) {
		return "", false
	}
	return t.Layout.PID.format(term), true
}

// format writes a pid of the VM's own. The number of its node is always 0.
func (l PIDLayout) format(term uint64) string {
	data := term >> 4 & (1<<(l.NumberBits+l.SerialBits) - 1)
	return fmt.Sprintf("<0.%d.%d>", data&(1<<l.NumberBits-1), data>>l.NumberBits)
}

// ProcessSlots returns the address of the process table's first slot: 64-bit
// pointers to struct process, or other values in slots not in use.
func (t *Target) ProcessSlots() uint64 { return t.processes.slots }

// ProcessIndexMask returns the mask of a slot's number, after a pid was shifted
// right by Layout.PID.IndexShift.
func (t *Target) ProcessIndexMask() uint32 { return t.processes.indexMask }

// PIDTerm returns the pid of the VM's own that other nodes write with a number and
// a serial number (NEW_PID_EXT), as a term.
func (t *Target) PIDTerm(number, serial uint32) (term uint64, ok bool) {
	l := t.Layout.PID
	data := uint64(serial)<<l.NumberBits | uint64(number)
	if number >= 1<<l.NumberBits || uint64(serial) >= 1<<l.SerialBits {
		return 0, false
	}
	if l.IndexShift < 32 { // the slot is part of the number
		return data<<4 | tagPID, true
	}
	slot := uint32(data)&t.processes.lineMask<<(t.processes.lineShift&31) + uint32(data)>>(t.processes.itemShift&31)&t.processes.itemMask
	return uint64(slot)<<32 | data<<4 | tagPID, true
}
