package native

import "debug/elf"

// The DWARF register numbers of AArch64: x0 to x30 are 0 to 30. DWARF for the
// Arm 64-bit Architecture (aadwarf64, 2023Q3), table 1.
const (
	RegisterX0  = 0
	RegisterX19 = 19
	RegisterX20 = 20
	RegisterX21 = 21
	RegisterX22 = 22
	RegisterX23 = 23
	RegisterX24 = 24
	RegisterX25 = 25
	RegisterX26 = 26
	RegisterX27 = 27
	RegisterX28 = 28
	RegisterX29 = 29 // frame pointer
	RegisterX30 = 30 // link register
	RegisterPC  = 32

	RegisterSP = 31
	RegisterFP = RegisterX29
)

// CalleeSaved is the set of registers that functions preserve and that
// Unwind therefore recovers: Procedure Call Standard (aapcs64, 2023Q3),
// section 6.1.1. x30 is not among them: a call overwrites it.
var CalleeSaved = bitsOf(RegisterX19, RegisterX20, RegisterX21, RegisterX22, RegisterX23,
	RegisterX24, RegisterX25, RegisterX26, RegisterX27, RegisterX28, RegisterX29)

var hostArchitecture = architecture{
	machine:          elf.EM_AARCH64,
	stackPointer:     RegisterSP,
	programCounter:   RegisterPC,
	calleeSaved:      CalleeSaved,
	returnInRegister: true,
	signedReturn:     true,
	stubRow:          func(uint64) *row { return &stubRow },
}

// stubRow: entries of a procedure linkage table do not touch the stack, nor
// the link register: System V ABI for AArch64 (sysvabi64, 2023Q3), section 10.
var stubRow = row{
	cfa:           rule{kind: ruleRegister, register: RegisterSP},
	returnAddress: rule{kind: ruleSame}, returnColumn: RegisterX30,
}
