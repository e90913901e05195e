package native

import "debug/elf"

// The DWARF register numbers of x86-64: System V psABI 1.0, figure 3.36.
const (
	RegisterRAX = 0
	RegisterRDX = 1
	RegisterRCX = 2
	RegisterRBX = 3
	RegisterRSI = 4
	RegisterRDI = 5
	RegisterRBP = 6
	RegisterRSP = 7
	RegisterR8  = 8
	RegisterR9  = 9
	RegisterR10 = 10
	RegisterR11 = 11
	RegisterR12 = 12
	RegisterR13 = 13
	RegisterR14 = 14
	RegisterR15 = 15
	RegisterRIP = 16 // the return address column

	RegisterSP = RegisterRSP
	RegisterFP = RegisterRBP
)

// CalleeSaved is the set of registers that functions preserve and that
// Unwind therefore recovers: psABI 1.0, figure 3.4.
var CalleeSaved = bitsOf(RegisterRBX, RegisterRBP, RegisterR12, RegisterR13, RegisterR14, RegisterR15)

var hostArchitecture = architecture{
	machine:        elf.EM_X86_64,
	stackPointer:   RegisterRSP,
	programCounter: RegisterRIP,
	calleeSaved:    CalleeSaved,
	stubRow:        stubRow,
}

// Entries of a procedure linkage table have 16 bytes. Those for lazy binding
// push a number at byte 6, which ends with byte 10: psABI 1.0, figure 5.2. Others
// only jump, and their bytes from 11 on are never executed.
const (
	stubSize   = 16
	stubPushed = 11
)

var stubRows = [2]row{stubRowWith(8), stubRowWith(16)}

func stubRowWith(offset int64) row {
	return row{
		cfa:           rule{kind: ruleRegister, register: RegisterRSP, offset: offset},
		returnAddress: rule{kind: ruleOffset, offset: -8}, returnColumn: RegisterRIP,
	}
}

func stubRow(vaddr uint64) *row {
	if vaddr%stubSize >= stubPushed {
		return &stubRows[1]
	}
	return &stubRows[0]
}
