package native

// setRegisters are those that testdata/chain.c gives values, in its order.
var setRegisters = []int{RegisterRBX, RegisterRBP, RegisterR12, RegisterR13, RegisterR14, RegisterR15}

// registerNames are gdb's and readelf's names of the callee-saved registers.
var registerNames = map[string]int{
	"rbx": RegisterRBX, "rbp": RegisterRBP, "r12": RegisterR12, "r13": RegisterR13, "r14": RegisterR14, "r15": RegisterR15,
}

// dwarfNames are readelf's names of all registers.
var dwarfNames = map[string]int{
	"rax": 0, "rdx": 1, "rcx": 2, "rbx": 3, "rsi": 4, "rdi": 5, "rbp": 6, "rsp": 7,
	"r8": 8, "r9": 9, "r10": 10, "r11": 11, "r12": 12, "r13": 13, "r14": 14, "r15": 15, "ra": 16,
}
