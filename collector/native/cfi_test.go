package native

import (
	"errors"
	"testing"
)

// arm is an architecture like arm64's, wherever the tests run.
var arm = &architecture{
	stackPointer: 31, programCounter: 32, calleeSaved: bitsOf(19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29),
	returnInRegister: true, signedReturn: true,
}

// function is an entry whose instructions are those given; its addresses are
// 0x1000 to 0x1fff.
func function(common, instructions []byte) *frameEntry {
	return &frameEntry{
		common: &commonEntry{codeAlignment: 4, dataAlignment: -8, returnAddress: 30, instructions: common},
		start:  0x1000, size: 0x1000, instructions: instructions,
	}
}

func TestInstructions(t *testing.T) {
	common := []byte{cfaDefine, 31, 0, cfaOffset1 | 19, 1}
	// At 0x1004 a frame record is pushed and the return address signed.
	record := []byte{cfaAdvance1 | 1, cfaNegateReturn, cfaDefineOffset, 32, cfaOffset1 | 29, 4, cfaOffset1 | 30, 3}
	for name, test := range map[string]struct {
		instructions []byte
		cfa          rule
		saved        map[int]rule // of the return address, 30, too
		signed       bool
	}{
		"common": {nil, rule{ruleRegister, 31, 0}, map[int]rule{19: {kind: ruleOffset, offset: -8}}, false},
		"later": {append([]byte{cfaAdvance1 | 2}, record...), rule{ruleRegister, 31, 0},
			map[int]rule{19: {kind: ruleOffset, offset: -8}}, false},
		"pushed": {record, rule{ruleRegister, 31, 32}, map[int]rule{
			19: {kind: ruleOffset, offset: -8}, 29: {kind: ruleOffset, offset: -32}, 30: {kind: ruleOffset, offset: -24}}, true},
		"state restored": {append(append([]byte{cfaRemember}, record...), cfaRestoreState), rule{ruleRegister, 31, 0},
			map[int]rule{19: {kind: ruleOffset, offset: -8}}, false},
		"restored": {append(record, cfaOffset, 19, 9, cfaRestore1|19, cfaRestore1|29, cfaRestore, 30), rule{ruleRegister, 31, 32},
			map[int]rule{19: {kind: ruleOffset, offset: -8}}, true},
		"other rules": {[]byte{cfaSame, 20, cfaRegister, 21, 1, cfaRegister, 22, 99, cfaValueOffset, 23, 2, cfaValueOffsetSigned, 24, 0x7e,
			cfaOffsetSigned, 25, 0x7f, cfaOffsetNegative, 26, 1, cfaUndefined, 30, cfaOffset, 70, 1, cfaDefineSigned, 29, 0x7e},
			rule{ruleRegister, 29, 16}, map[int]rule{
				19: {kind: ruleOffset, offset: -8}, 20: {kind: ruleSame}, 21: {kind: ruleRegister, register: 1}, 22: {kind: ruleUndefined},
				23: {kind: ruleValueOffset, offset: -16}, 24: {kind: ruleValueOffset, offset: 16}, 25: {kind: ruleOffset, offset: 8},
				26: {kind: ruleOffset, offset: 8}, 30: {kind: ruleUndefined}}, false},
		"expressions": {[]byte{cfaDefineExpression, 1, opLiteral0, cfaExpression, 20, 1, opLiteral0 + 1, cfaValueExpression, 21, 1, opLiteral0 + 2},
			rule{ruleExpression, 0, 0}, map[int]rule{19: {kind: ruleOffset, offset: -8},
				20: {kind: ruleExpression, offset: 1}, 21: {kind: ruleValueExpression, offset: 2}}, false},
	} {
		var r row
		if err := function(common, test.instructions).rowFor(0x1004, arm, &r); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.cfa != test.cfa || r.returnAddress != test.saved[30] || r.signed != test.signed {
			t.Errorf("%s: frame at %+v, return address %+v, signed %v", name, r.cfa, r.returnAddress, r.signed)
		}
		delete(test.saved, 30)
		for _, s := range r.saved {
			if test.saved[int(s.number)] != s.rule {
				t.Errorf("%s: register %d: %+v", name, s.number, s.rule)
			}
			delete(test.saved, int(s.number))
		}
		if len(test.saved) > 0 {
			t.Errorf("%s: not saved: %v", name, test.saved)
		}
	}
}

func TestMalformedInstructions(t *testing.T) {
	remember := make([]byte, maxRemembered+1)
	for i := range remember {
		remember[i] = cfaRemember
	}
	for name, instructions := range map[string][]byte{
		"unknown": {0x3f}, "cut off": {cfaOffset, 1}, "no state": {cfaRestoreState}, "many states": remember,
		"register of the frame address": {cfaDefine, 99, 0}, "expression and offset": {cfaDefineExpression, 1, opNop, cfaDefineOffset, 8},
		"long expression": {cfaExpression, 1, 200}, "long number": {cfaOffset, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1},
		"wraps around": {cfaSetLocation, 255, 255, 255, 255, 255, 255, 255, 255, cfaAdvance4, 255, 255, 255, 255},
	} {
		var r row
		if err := function([]byte{cfaDefine, 31, 0}, instructions).rowFor(1<<64-1, arm, &r); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
	}
}

func TestSignedReturnAddressNeedsArm(t *testing.T) {
	plain := *arm
	plain.signedReturn = false
	if err := function(nil, []byte{cfaNegateReturn}).rowFor(0x1000, &plain, new(row)); !errors.Is(err, errMalformed) {
		t.Error(err)
	}
}

// A leaf function of arm64 keeps its return address in x30; its caller has
// pushed a signed one.
func TestStepOnArm(t *testing.T) {
	s := &Space{arch: arm, addressMask: 1<<48 - 1}
	regs := Registers{PC: 0x1000, SP: 0x7000}
	regs.Set(30, 0x2004)
	regs.Set(29, 0x7000)
	regs.Set(1, 5)
	memory := Stack{Base: 0x7000, Bytes: []byte{0x80, 0x70, 0, 0, 0, 0, 0, 0, 0x08, 0x30, 0, 0, 0, 0, 0x7b, 0x5a}}
	leaf := row{cfa: rule{kind: ruleRegister, register: 31}, returnColumn: 30}
	caller, _, ok := s.step(&regs, &memory, &leaf)
	if _, known := caller.Known(1); !ok || caller.PC != 0x2004 || caller.SP != 0x7000 || known {
		t.Fatalf("%+v, %v", caller, ok)
	}
	if !s.plausible(&regs, &caller, &leaf, true) || s.plausible(&regs, &caller, &leaf, false) {
		t.Error("only a leaf may take no stack")
	}
	pushed := row{
		cfa: rule{kind: ruleRegister, register: 29, offset: 16}, returnAddress: rule{kind: ruleOffset, offset: -8}, returnColumn: 30,
		saved: []savedRule{{29, rule{kind: ruleOffset, offset: -16}}}, signed: true,
	}
	outer, _, ok := s.step(&caller, &memory, &pushed)
	if frame, _ := outer.Known(29); !ok || outer.PC != 0x3008 || outer.SP != 0x7010 || frame != 0x7080 {
		t.Errorf("%+v, %v", outer, ok)
	}
	// The link register is not the caller's any more: it cannot be used again.
	if _, _, ok := s.step(&outer, &memory, &leaf); ok {
		t.Error("a return address out of nothing")
	}
}

func FuzzInstructions(f *testing.F) {
	f.Add([]byte{cfaDefine, 7, 8, cfaOffset1 | 16, 1}, []byte{cfaAdvance1 | 1, cfaDefineOffset, 16, cfaOffset1 | 6, 2}, uint64(0x1008))
	f.Add([]byte{}, []byte{cfaDefineExpression, 2, opRegister0 + 7, 8, cfaRemember, cfaAdvance4, 1, 2, 3, 4, cfaRestoreState}, uint64(0x1000))
	f.Fuzz(func(t *testing.T, common, instructions []byte, vaddr uint64) {
		var r row
		if err := function(common, instructions).rowFor(vaddr, arm, &r); err != nil {
			return
		}
		s := &Space{arch: arm, addressMask: 1<<48 - 1}
		regs := Registers{PC: 0x1000, SP: 0x7000, Valid: 1<<registerCount - 1}
		s.step(&regs, &Stack{Base: 0x7000, Bytes: make([]byte, 256)}, &r)
		var cache rowCache
		if kept := cache.shared(&r); cache.shared(&r) != kept {
			t.Error("a row is not equal to itself")
		}
	})
}
