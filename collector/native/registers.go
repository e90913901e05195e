package native

import "debug/elf"

// registerCount is how many of an architecture's DWARF registers are tracked:
// the general-purpose ones and the program counter. Vector registers have
// higher numbers and are never needed to find a frame.
const registerCount = 33

// Registers is the state of a thread in one of its frames. PC and SP are the
// program counter and the stack pointer; the copies that Reg has room for at
// their DWARF numbers are neither read nor written.
type Registers struct {
	PC, SP uint64
	Reg    [registerCount]uint64 // by DWARF number of the architecture
	Valid  uint64                // bit n: Reg[n] is known
}

// Known returns the value of a register in this frame, if it is known.
func (r *Registers) Known(register int) (uint64, bool) {
	return r.Reg[register], r.Valid>>register&1 != 0
}

// Set records the value of a register.
func (r *Registers) Set(register int, value uint64) {
	r.Reg[register] = value
	r.Valid |= 1 << register
}

// architecture is what unwinding needs to know of a processor's psABI.
type architecture struct {
	machine        elf.Machine
	stackPointer   uint8  // DWARF number
	programCounter uint8  // DWARF number
	calleeSaved    uint64 // bit n: functions preserve register n
	// returnInRegister: a call leaves the return address in a register, so a
	// leaf function need not have pushed anything.
	returnInRegister bool
	// signedReturn: return addresses can carry pointer authentication codes.
	signedReturn bool
	// stubRow is how to unwind from a vaddr in a procedure linkage table that
	// has no unwind information: not all linkers write it for what they make.
	stubRow func(vaddr uint64) *row
}

// bitsOf returns the set of the registers given.
func bitsOf(registers ...int) (set uint64) {
	for _, r := range registers {
		set |= 1 << r
	}
	return set
}
