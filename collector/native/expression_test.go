package native

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/go-delve/delve/pkg/dwarf/op"
)

func expressionState() (*Registers, Stack) {
	regs := &Registers{PC: 0x40100b, SP: 0x7000}
	for i := range registerCount - 3 {
		regs.Set(i, 0x7000+uint64(i))
	}
	stack := Stack{Base: 0x7000, Bytes: make([]byte, 256)}
	for i := range stack.Bytes {
		stack.Bytes[i] = byte(i) * 37
	}
	return regs, stack
}

func evaluate(expression []byte, initial uint64, push bool) (uint64, bool) {
	regs, stack := expressionState()
	e := evaluator{arch: &hostArchitecture, regs: regs, stack: stack}
	return e.evaluate(expression, initial, push)
}

func TestExpressions(t *testing.T) {
	sp := byte(opRegister0 + RegisterSP)
	_, stack := expressionState()
	word := binary.LittleEndian.Uint64(stack.Bytes[16:])
	for name, test := range map[string]struct {
		expression []byte
		want       uint64
	}{
		"stack pointer":   {[]byte{sp, 8}, 0x7008},
		"negative offset": {[]byte{sp, 0x78}, 0x6ff8},
		"register":        {[]byte{opRegister0 + 3, 0}, 0x7003},
		"any register":    {[]byte{opRegisterX, 3, 1}, 0x7004},
		"initial":         {[]byte{opPlusConst, 0x80, 1}, 0x80 + 1000},
		"lazy binding stub": {[]byte{sp, 8, opRegisterX, byte(hostArchitecture.programCounter), 0, opLiteral0 + 15, opAnd,
			opLiteral0 + 11, opGreaterEqual, opLiteral0 + 3, opShiftLeft, opPlus}, 0x7010},
		"word":     {[]byte{sp, 16, opDereference}, word},
		"byte":     {[]byte{sp, 1, opDerefSize, 1}, 37},
		"rotate":   {[]byte{opLiteral0 + 1, opLiteral0 + 2, opLiteral0 + 3, opRotate, opShiftLeft, opMinus}, ^uint64(0)}, // 1 2 3 becomes 3 1 2: 3 - (1 << 2)
		"jump":     {[]byte{opSkip, 1, 0, 0xff, opLiteral0 + 7}, 7},
		"branch":   {[]byte{opLiteral0 + 1, opBranch, 1, 0, 0xff, opLiteral0 + 7}, 7},
		"straight": {[]byte{opLiteral0, opBranch, 1, 0, opNop, opLiteral0 + 7}, 7},
		"signed":   {[]byte{opConst1s, 0xf0, opLiteral0 + 4, opDivide, opAbsolute}, 4},
		"pick":     {[]byte{opLiteral0 + 9, opLiteral0, opLiteral0, opPick, 2}, 9},
	} {
		got, ok := evaluate(test.expression, 1000, true)
		if !ok || got != test.want {
			t.Errorf("%s: %#x, %v; want %#x", name, got, ok, test.want)
		}
	}
	for name, expression := range map[string][]byte{
		"empty": {}, "unknown": {0xff}, "underflow": {opPlus}, "drop": {opLiteral0, opDrop, opDrop}, "cut off": {opConst8u, 1},
		"no memory": {opLiteral0, opDereference}, "size": {opRegister0 + RegisterSP, 0, opDerefSize, 3},
		"division": {opLiteral0, opLiteral0, opDivide}, "remainder": {opLiteral0, opLiteral0, opModulo},
		"endless": {opLiteral0 + 1, opSkip, 0xfc, 0xff}, "outside": {opSkip, 9, 0}, "before": {opSkip, 0xf0, 0xff},
		"unknown register": {opRegisterX, 100, 0}, "deep": bytes.Repeat([]byte{opLiteral0}, expressionDepth+1),
	} {
		if got, ok := evaluate(expression, 0, false); ok {
			t.Errorf("%s: %#x", name, got)
		}
	}
}

// Wherever both give a value it is the same as that of the library for
// debuggers; and hostile expressions end.
func FuzzExpression(f *testing.F) {
	f.Add([]byte{opRegister0 + 7, 8, opRegister0 + 16, 0, opLiteral0 + 15, opAnd, opLiteral0 + 11, opGreaterEqual, opLiteral0 + 3, opShiftLeft, opPlus})
	f.Add([]byte{opRegister0 + 7, 16, opDereference, opPlusConst, 8})
	f.Add([]byte{opConst2s, 1, 0x80, opConst1u, 200, opOver, opSwap, opRotate, opXor, opNot, opNegate})
	f.Fuzz(func(t *testing.T, expression []byte) {
		got, ok := evaluate(expression, 0x7777, true)
		// The library makes buffers as large as DW_OP_implicit_value says, and has a
		// signed remainder where libgcc's, which compilers write for, is unsigned.
		const implicitValue = 0x9e
		if !ok || bytes.IndexByte(expression, implicitValue) >= 0 || bytes.IndexByte(expression, opModulo) >= 0 {
			return
		}
		regs, stack := expressionState()
		library := op.DwarfRegisters{CFA: 0x7777}
		for i := range registerCount {
			if v, known := value(&hostArchitecture, regs, uint64(i)); known {
				library.AddReg(uint64(i), op.DwarfRegisterFromUint64(v))
			}
		}
		const pushCFA = 0x9c
		want, _, err := op.ExecuteStackProgram(library, append([]byte{pushCFA}, expression...), 8, func(b []byte, addr uint64) (int, error) {
			if !stack.read(b, addr) {
				return 0, op.ErrMemoryReadUnavailable
			}
			return len(b), nil
		})
		if err == nil && uint64(want) != got {
			t.Errorf("%x: %#x, the library says %#x", expression, got, uint64(want))
		}
	})
}
