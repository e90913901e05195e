package native

import "encoding/binary"

// The operations of DWARF expressions that may occur in call frame
// information: DWARF 5, sections 7.7.1 and 6.4.2.
const (
	opDereference  = 0x06
	opConst1u      = 0x08
	opConst1s      = 0x09
	opConst2u      = 0x0a
	opConst2s      = 0x0b
	opConst4u      = 0x0c
	opConst4s      = 0x0d
	opConst8u      = 0x0e
	opConst8s      = 0x0f
	opConstU       = 0x10
	opConstS       = 0x11
	opDuplicate    = 0x12
	opDrop         = 0x13
	opOver         = 0x14
	opPick         = 0x15
	opSwap         = 0x16
	opRotate       = 0x17
	opAbsolute     = 0x19
	opAnd          = 0x1a
	opDivide       = 0x1b
	opMinus        = 0x1c
	opModulo       = 0x1d
	opMultiply     = 0x1e
	opNegate       = 0x1f
	opNot          = 0x20
	opOr           = 0x21
	opPlus         = 0x22
	opPlusConst    = 0x23
	opShiftLeft    = 0x24
	opShiftRight   = 0x25
	opShiftArith   = 0x26
	opXor          = 0x27
	opBranch       = 0x28
	opEqual        = 0x29
	opGreaterEqual = 0x2a
	opGreater      = 0x2b
	opLessEqual    = 0x2c
	opLess         = 0x2d
	opNotEqual     = 0x2e
	opSkip         = 0x2f
	opLiteral0     = 0x30 // to opLiteral0 + 31
	opRegister0    = 0x70 // DW_OP_breg0, to opRegister0 + 31
	opRegisterX    = 0x92 // DW_OP_bregx
	opDerefSize    = 0x94
	opNop          = 0x96
)

const (
	expressionDepth = 16  // of the stack; real ones need 5
	expressionSteps = 256 // real ones have no loops and less than 20
)

// evaluator evaluates DWARF expressions on one frame. The library evaluators
// are made for whole location descriptions: they allocate as much as a hostile
// expression says, and per step.
type evaluator struct {
	arch  *architecture
	regs  *Registers
	stack Stack
	value [expressionDepth]uint64
	depth int
	bad   bool
}

// evaluate returns the value of an expression that starts with initial on its
// stack if push is set. ok is false if it is malformed or needs a register
// or memory that is not known.
func (e *evaluator) evaluate(expression []byte, initial uint64, push bool) (value uint64, ok bool) {
	e.depth, e.bad = 0, false
	if push {
		e.push(initial)
	}
	c := cursor{data: expression}
	for steps := 0; c.at < len(c.data); steps++ {
		if steps == expressionSteps {
			return 0, false
		}
		e.step(c.u8(), &c)
		if e.bad || c.bad {
			return 0, false
		}
	}
	value = e.pop()
	return value, !e.bad
}

func (e *evaluator) push(v uint64) {
	if e.depth == expressionDepth {
		e.bad = true
		return
	}
	e.value[e.depth] = v
	e.depth++
}

func (e *evaluator) pop() uint64 { return e.remove(0) }

// remove takes the value n below the top away.
func (e *evaluator) remove(n int) uint64 {
	v := e.peek(n)
	if !e.bad {
		at := e.depth - 1 - n
		copy(e.value[at:e.depth-1], e.value[at+1:e.depth])
		e.depth--
	}
	return v
}

func (e *evaluator) peek(n int) uint64 {
	if n >= e.depth {
		e.bad = true
		return 0
	}
	return e.value[e.depth-1-n]
}

func (e *evaluator) step(op uint8, c *cursor) {
	switch {
	case op >= opLiteral0 && op < opLiteral0+32:
		e.push(uint64(op - opLiteral0))
		return
	case op >= opRegister0 && op < opRegister0+32:
		e.register(uint64(op-opRegister0), c.sleb())
		return
	case op >= opConst1u && op <= opConstS:
		e.push(constant(op, c))
		return
	}
	switch op {
	case opNop:
	case opRegisterX:
		e.register(c.uleb(), c.sleb())
	case opDereference:
		e.dereference(8)
	case opDerefSize:
		e.dereference(c.u8())
	case opDuplicate:
		e.push(e.peek(0))
	case opDrop:
		e.pop()
	case opOver:
		e.push(e.peek(1))
	case opPick:
		e.push(e.peek(int(c.u8())))
	case opSwap:
		e.push(e.remove(1))
	case opRotate: // the top goes below the two others
		e.push(e.remove(2))
		e.push(e.remove(2))
	case opAbsolute:
		if v := e.pop(); int64(v) < 0 {
			e.push(-v)
		} else {
			e.push(v)
		}
	case opNegate:
		e.push(-e.pop())
	case opNot:
		e.push(^e.pop())
	case opPlusConst:
		e.push(e.pop() + c.uleb())
	case opSkip:
		e.jump(c, true)
	case opBranch:
		e.jump(c, e.pop() != 0)
	default:
		top, second := e.pop(), e.pop()
		e.push(e.binary(op, second, top))
	}
}

func constant(op uint8, c *cursor) uint64 {
	switch op {
	case opConst1u:
		return uint64(c.u8())
	case opConst1s:
		return uint64(int64(int8(c.u8())))
	case opConst2u:
		return uint64(c.u16())
	case opConst2s:
		return uint64(int64(int16(c.u16())))
	case opConst4u:
		return uint64(c.u32())
	case opConst4s:
		return uint64(int64(int32(c.u32())))
	case opConstU:
		return c.uleb()
	case opConstS:
		return uint64(c.sleb())
	}
	return c.u64() // opConst8u, opConst8s
}

func (e *evaluator) binary(op uint8, a, b uint64) uint64 {
	truth := func(is bool) uint64 {
		if is {
			return 1
		}
		return 0
	}
	switch op {
	case opAnd:
		return a & b
	case opOr:
		return a | b
	case opXor:
		return a ^ b
	case opPlus:
		return a + b
	case opMinus:
		return a - b
	case opMultiply:
		return a * b
	case opDivide:
		if b == 0 {
			e.bad = true
			return 0
		}
		return uint64(int64(a) / int64(b))
	case opModulo:
		if b == 0 {
			e.bad = true
			return 0
		}
		return a % b
	case opShiftLeft:
		return a << b
	case opShiftRight:
		return a >> b
	case opShiftArith:
		return uint64(int64(a) >> b)
	case opEqual:
		return truth(a == b)
	case opNotEqual:
		return truth(a != b)
	case opGreaterEqual:
		return truth(int64(a) >= int64(b))
	case opGreater:
		return truth(int64(a) > int64(b))
	case opLessEqual:
		return truth(int64(a) <= int64(b))
	case opLess:
		return truth(int64(a) < int64(b))
	}
	e.bad = true
	return 0
}

// register pushes the value of a register of the frame plus an offset.
func (e *evaluator) register(number uint64, offset int64) {
	v, ok := value(e.arch, e.regs, number)
	if !ok {
		e.bad = true
	}
	e.push(v + uint64(offset))
}

func (e *evaluator) dereference(size uint8) {
	if size != 1 && size != 2 && size != 4 && size != 8 {
		e.bad = true
		return
	}
	var word [8]byte
	if !e.stack.read(word[:size], e.pop()) {
		e.bad = true
	}
	e.push(binary.LittleEndian.Uint64(word[:]))
}

// jump moves within the expression by the 16-bit distance that follows.
func (e *evaluator) jump(c *cursor, taken bool) {
	distance := int(int16(c.u16()))
	if !taken {
		return
	}
	if to := c.at + distance; to >= 0 && to <= len(c.data) {
		c.at = to
	} else {
		e.bad = true
	}
}
