package native

import (
	"bytes"
	"fmt"
)

// The call frame instructions: DWARF 5, section 7.24, and what GNU and Arm
// added (binutils 2.40, include/dwarf2.def; aadwarf64 2023Q3, section 4.4).
const (
	cfaAdvance1           = 0x40 // low six bits: delta
	cfaOffset1            = 0x80 // low six bits: register
	cfaRestore1           = 0xc0 // low six bits: register
	cfaNop                = 0x00
	cfaSetLocation        = 0x01
	cfaAdvanceByte        = 0x02
	cfaAdvance2           = 0x03
	cfaAdvance4           = 0x04
	cfaOffset             = 0x05
	cfaRestore            = 0x06
	cfaUndefined          = 0x07
	cfaSame               = 0x08
	cfaRegister           = 0x09
	cfaRemember           = 0x0a
	cfaRestoreState       = 0x0b
	cfaDefine             = 0x0c
	cfaDefineRegister     = 0x0d
	cfaDefineOffset       = 0x0e
	cfaDefineExpression   = 0x0f
	cfaExpression         = 0x10
	cfaOffsetSigned       = 0x11
	cfaDefineSigned       = 0x12
	cfaDefineOffsetSigned = 0x13
	cfaValueOffset        = 0x14
	cfaValueOffsetSigned  = 0x15
	cfaValueExpression    = 0x16
	cfaNegateReturnWithPC = 0x2c // arm64
	cfaNegateReturn       = 0x2d // arm64; elsewhere it belongs to SPARC
	cfaArgumentsSize      = 0x2e
	cfaOffsetNegative     = 0x2f
)

const (
	// maxRemembered bounds the states remembered at a time; compilers need one or two.
	maxRemembered = 8
	// maxExpressions bounds the expressions of one function; signal return code has 17.
	maxExpressions = 64
)

// frameState is what instructions change: the row under construction.
type frameState struct {
	cfa    rule
	rules  [registerCount]rule
	signed bool
}

// interpreter runs the instructions of one function up to one address.
type interpreter struct {
	arch        *architecture
	common      *commonEntry
	location    uint64 // vaddr from which on the state holds
	wanted      uint64 // vaddr
	state       frameState
	initial     frameState // after the common instructions: what "restore" restores
	remembered  []frameState
	expressions [][]byte
}

// rowFor computes the row of a vaddr in a function into row. The work is
// bounded by the entry's length: no instruction repeats another.
func (f *frameEntry) rowFor(vaddr uint64, arch *architecture, row *row) error {
	in := interpreter{arch: arch, common: f.common, location: f.start, wanted: vaddr}
	if err := in.run(f.common.instructions, 0); err != nil {
		return err
	}
	in.initial = in.state
	if err := in.run(f.instructions, f.address); err != nil {
		return err
	}
	in.fill(row)
	return nil
}

func (in *interpreter) fill(r *row) {
	column := uint8(in.common.returnAddress)
	*r = row{
		cfa: in.state.cfa, returnAddress: in.state.rules[column], returnColumn: column,
		saved: r.saved[:0], expressions: in.expressions,
		signal: in.common.signal, signed: in.state.signed,
	}
	for number, rule := range in.state.rules {
		if rule.kind != ruleUnspecified && number != int(column) {
			r.saved = append(r.saved, savedRule{uint8(number), rule})
		}
	}
}

// run executes instructions until they end or describe addresses after the
// one wanted. address is their vaddr.
func (in *interpreter) run(instructions []byte, address uint64) error {
	c := &pointerReader{cursor: cursor{data: instructions}, address: address}
	for !c.empty() && in.location <= in.wanted {
		if err := in.step(c); err != nil {
			return err
		}
	}
	if c.bad {
		return errMalformed
	}
	return nil
}

func (in *interpreter) step(c *pointerReader) error {
	op := c.u8()
	switch low := op & 0x3f; op & 0xc0 {
	case cfaAdvance1:
		return in.advance(uint64(low))
	case cfaOffset1:
		in.set(uint64(low), in.at(ruleOffset, int64(c.uleb())))
		return nil
	case cfaRestore1:
		in.restore(uint64(low))
		return nil
	}
	switch op {
	case cfaNop:
	case cfaSetLocation:
		in.location = c.pointer(in.common.pointerEncoding)
	case cfaAdvanceByte:
		return in.advance(uint64(c.u8()))
	case cfaAdvance2:
		return in.advance(uint64(c.u16()))
	case cfaAdvance4:
		return in.advance(uint64(c.u32()))
	case cfaRemember:
		if len(in.remembered) == maxRemembered {
			return fmt.Errorf("%w: too many remembered states", errMalformed)
		}
		in.remembered = append(in.remembered, in.state)
	case cfaRestoreState:
		last := len(in.remembered) - 1
		if last < 0 {
			return fmt.Errorf("%w: no remembered state", errMalformed)
		}
		in.state, in.remembered = in.remembered[last], in.remembered[:last]
	case cfaNegateReturn, cfaNegateReturnWithPC:
		if !in.arch.signedReturn {
			return fmt.Errorf("%w: instruction %#x", errMalformed, op)
		}
		in.state.signed = !in.state.signed
	case cfaArgumentsSize:
		c.uleb()
	case cfaDefine, cfaDefineSigned, cfaDefineRegister, cfaDefineOffset, cfaDefineOffsetSigned, cfaDefineExpression:
		return in.define(op, c)
	default:
		return in.save(op, c)
	}
	return nil
}

// define executes the instructions that say what the CFA is.
func (in *interpreter) define(op uint8, c *pointerReader) error {
	cfa := &in.state.cfa
	if (op == cfaDefineRegister || op == cfaDefineOffset || op == cfaDefineOffsetSigned) && cfa.kind != ruleRegister {
		return fmt.Errorf("%w: change of a frame address that is no register", errMalformed)
	}
	register := uint64(cfa.register)
	switch op {
	case cfaDefine:
		register = c.uleb()
		*cfa = rule{kind: ruleRegister, offset: int64(c.uleb())}
	case cfaDefineSigned:
		register = c.uleb()
		*cfa = rule{kind: ruleRegister, offset: c.sleb() * in.common.dataAlignment}
	case cfaDefineRegister:
		register = c.uleb()
	case cfaDefineOffset:
		cfa.offset = int64(c.uleb())
	case cfaDefineOffsetSigned:
		cfa.offset = c.sleb() * in.common.dataAlignment
	case cfaDefineExpression:
		var err error
		*cfa, err = in.expression(ruleExpression, c)
		return err
	}
	if register >= registerCount {
		return fmt.Errorf("%w: frame address in register %d", errMalformed, register)
	}
	cfa.register = uint8(register)
	return nil
}

// save executes the instructions that say where the caller's registers are.
func (in *interpreter) save(op uint8, c *pointerReader) error {
	if op > cfaValueExpression && op != cfaOffsetNegative {
		return fmt.Errorf("%w: instruction %#x", errMalformed, op)
	}
	register := c.uleb()
	switch op {
	case cfaOffset:
		in.set(register, in.at(ruleOffset, int64(c.uleb())))
	case cfaOffsetSigned:
		in.set(register, in.at(ruleOffset, c.sleb()))
	case cfaOffsetNegative:
		in.set(register, in.at(ruleOffset, -int64(c.uleb())))
	case cfaValueOffset:
		in.set(register, in.at(ruleValueOffset, int64(c.uleb())))
	case cfaValueOffsetSigned:
		in.set(register, in.at(ruleValueOffset, c.sleb()))
	case cfaRestore:
		in.restore(register)
	case cfaUndefined:
		in.set(register, rule{kind: ruleUndefined})
	case cfaSame:
		in.set(register, rule{kind: ruleSame})
	case cfaRegister:
		if from := c.uleb(); from < registerCount {
			in.set(register, rule{kind: ruleRegister, register: uint8(from)})
		} else {
			in.set(register, rule{kind: ruleUndefined})
		}
	case cfaExpression, cfaValueExpression:
		kind := ruleExpression
		if op == cfaValueExpression {
			kind = ruleValueExpression
		}
		rule, err := in.expression(kind, c)
		if err != nil {
			return err
		}
		in.set(register, rule)
	}
	return nil
}

func (in *interpreter) advance(delta uint64) error {
	before := in.location
	in.location += delta * in.common.codeAlignment
	if in.location < before {
		return fmt.Errorf("%w: location wraps around", errMalformed)
	}
	return nil
}

func (in *interpreter) at(kind ruleKind, factored int64) rule {
	return rule{kind: kind, offset: factored * in.common.dataAlignment}
}

// set leaves out vector registers, which have numbers beyond registerCount.
func (in *interpreter) set(register uint64, r rule) {
	if register < registerCount {
		in.state.rules[register] = r
	}
}

func (in *interpreter) restore(register uint64) {
	if register < registerCount {
		in.state.rules[register] = in.initial.rules[register]
	}
}

// expression reads a DWARF expression and keeps it.
func (in *interpreter) expression(kind ruleKind, c *pointerReader) (rule, error) {
	if len(in.expressions) == maxExpressions {
		return rule{}, fmt.Errorf("%w: too many expressions", errMalformed)
	}
	in.expressions = append(in.expressions, bytes.Clone(c.take(c.uleb())))
	return rule{kind: kind, offset: int64(len(in.expressions) - 1)}, nil
}
