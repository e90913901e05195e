package native

import "fmt"

// setRegisters are those that testdata/chain.c gives values, in its order.
var setRegisters = []int{RegisterX19, RegisterX20, RegisterX21, RegisterX22, RegisterX23, RegisterX24}

// registerNames are gdb's and readelf's names of the callee-saved registers.
var registerNames = map[string]int{
	"x19": RegisterX19, "x20": RegisterX20, "x21": RegisterX21, "x22": RegisterX22, "x23": RegisterX23, "x24": RegisterX24,
	"x25": RegisterX25, "x26": RegisterX26, "x27": RegisterX27, "x28": RegisterX28, "x29": RegisterX29,
}

// dwarfNames are readelf's names of all registers.
var dwarfNames = func() map[string]int {
	names := map[string]int{"sp": 31}
	for i := range 31 {
		names[fmt.Sprintf("x%d", i)] = i
	}
	return names
}()
