package native

import "encoding/binary"

// Stack is recorded stack memory: Bytes from the address Base on. It should
// begin RedZone bytes below the stack pointer. Without that part, registers
// that a leaf function saved there come out wrong; few functions do so.
type Stack struct {
	Base  uint64
	Bytes []byte
	Above *Stack // more of it further up, behind a gap, or nil
}

// RedZone is how many bytes below the stack pointer belong to a function that
// calls no others: System V psABI x86-64 1.0, section 3.2.2. (On arm64 it is 0.)
const RedZone = 128

// read fills buf with the memory at addr, if all of it was recorded.
func (s *Stack) read(buf []byte, addr uint64) bool {
	into := addr - s.Base
	if addr < s.Base || into > uint64(len(s.Bytes)) || uint64(len(s.Bytes))-into < uint64(len(buf)) {
		return s.Above != nil && s.Above.read(buf, addr)
	}
	copy(buf, s.Bytes[into:])
	return true
}

// word returns the 64-bit word at addr.
func (s *Stack) word(addr uint64) (uint64, bool) {
	into := addr - s.Base
	if addr < s.Base || uint64(len(s.Bytes)) < 8 || into > uint64(len(s.Bytes))-8 {
		if s.Above != nil {
			return s.Above.word(addr)
		}
		return 0, false
	}
	return binary.LittleEndian.Uint64(s.Bytes[into:]), true
}

// End tells why Unwind ended.
type End uint8

// The ends of a walk, best first.
const (
	EndBoundary End = iota // the return address is where the caller asked to stop
	EndRoot                // the thread's first frame
	EndMemory              // the caller's frame is beyond the recorded memory
	EndBroken              // no unwind information, or what it says cannot be
)

var endNames = [...]string{"boundary", "root", "memory", "broken"}

// String returns the end in one word.
func (e End) String() string { return endNames[e] }

// Unwind walks native frames from regs, leaf first, and appends the program
// counter of each to pcs: of the first frame the exact one, of the others the
// return address, or one more than the address where a signal struck: the
// byte before it is the frame's code either way. A return address for which
// stop is true ends the walk and is not appended. stack is the recorded memory.
//
// regs are those of the last frame reached: after EndBoundary of the frame at
// the boundary (PC the return address, SP the stack pointer after the return,
// and the callee-saved registers as far as they are known), else of the last
// frame in pcs.
//
// A register that is not known at the start stays unknown until a frame has
// saved it; the walk goes on as long as it is not needed.
func (s *Space) Unwind(regs *Registers, stack Stack, stop func(pc uint64) bool, pcs []uint64) ([]uint64, End) {
	return s.unwind(regs, stack, stop, pcs, true)
}

// unwind is Unwind from any frame: exact tells that regs.PC is where the
// thread is or a signal struck, and not behind a call.
func (s *Space) unwind(regs *Registers, stack Stack, stop func(pc uint64) bool, pcs []uint64, exact bool) ([]uint64, End) {
	leaf, first := exact, len(pcs)
	// Every frame but the leaf's and a signal's takes stack: this bound only
	// matters to memory that was made to lead in circles.
	for range len(stack.Bytes)/8 + 16 {
		at := regs.PC
		if !exact {
			at--
		}
		if len(pcs) == first {
			pcs = append(pcs, regs.PC)
		} else {
			pcs = append(pcs, at+1)
		}
		row := s.row(at)
		switch {
		case row == noRow:
			return pcs, EndBroken
		case row == rootRow || row.returnAddress.kind == ruleUndefined:
			return pcs, EndRoot
		}
		caller, end, ok := s.step(regs, &stack, row)
		if !ok {
			return pcs, end
		}
		if caller.PC == 0 {
			return pcs, EndRoot
		}
		if !s.plausible(regs, &caller, row, leaf) {
			return pcs, EndBroken
		}
		if stop != nil && stop(caller.PC) {
			*regs = caller
			return pcs, EndBoundary
		}
		if s.find(caller.PC) == nil {
			return pcs, EndBroken
		}
		*regs, exact, leaf = caller, row.signal, row.signal
	}
	return pcs, EndBroken
}

// plausible tells whether the caller's frame lies above its callee's, as
// frames do. A leaf need not take any stack where the return address is in a
// register, and signals may have a stack of their own.
func (s *Space) plausible(callee, caller *Registers, row *row, leaf bool) bool {
	if row.signal || caller.SP > callee.SP {
		return true
	}
	return leaf && s.arch.returnInRegister && caller.SP == callee.SP && caller.PC != callee.PC
}

// step computes the registers of the caller of a frame. If it cannot, end
// tells why.
func (s *Space) step(regs *Registers, stack *Stack, row *row) (caller Registers, end End, ok bool) {
	cfa, ok := s.frameAddress(regs, stack, row)
	if !ok {
		return caller, EndBroken, false
	}
	pc, ok := s.returnAddress(regs, stack, row, cfa)
	if !ok {
		if row.returnAddress.kind == ruleOffset {
			return caller, EndMemory, false
		}
		return caller, EndBroken, false
	}
	caller.PC, caller.SP = pc, cfa
	// What a function must preserve is unchanged unless a rule says otherwise.
	caller.Valid = regs.Valid & s.arch.calleeSaved
	caller.Reg = regs.Reg
	for i := range row.saved {
		saved := &row.saved[i]
		v, ok := s.saved(regs, stack, row, &saved.rule, cfa, saved.number)
		switch {
		case !ok:
			caller.Valid &^= 1 << saved.number
		case saved.number == s.arch.stackPointer:
			caller.SP = v
		default:
			caller.Set(int(saved.number), v)
		}
	}
	return caller, 0, true
}

// frameAddress computes the CFA.
func (s *Space) frameAddress(regs *Registers, stack *Stack, row *row) (uint64, bool) {
	switch row.cfa.kind {
	case ruleRegister:
		v, ok := value(s.arch, regs, uint64(row.cfa.register))
		return v + uint64(row.cfa.offset), ok
	case ruleExpression:
		return s.evaluate(regs, stack, row.expressions[row.cfa.offset], 0, false)
	}
	return 0, false
}

func (s *Space) returnAddress(regs *Registers, stack *Stack, row *row, cfa uint64) (uint64, bool) {
	pc, ok := s.saved(regs, stack, row, &row.returnAddress, cfa, row.returnColumn)
	if s.arch.signedReturn {
		pc &= s.addressMask // harmless where the address is not signed
	}
	return pc, ok
}

// saved evaluates the rule of one register of the caller.
func (s *Space) saved(regs *Registers, stack *Stack, row *row, rule *rule, cfa uint64, number uint8) (uint64, bool) {
	switch rule.kind {
	case ruleOffset:
		addr := cfa + uint64(rule.offset)
		v, ok := stack.word(addr)
		if !ok && addr < regs.SP && number != s.arch.programCounter {
			// In epilogues the register was popped already, which compilers
			// do not tell: the rule goes on to name the slot, below SP by now.
			return value(s.arch, regs, uint64(number))
		}
		return v, ok
	case ruleSame, ruleUnspecified:
		return value(s.arch, regs, uint64(number))
	case ruleRegister:
		return value(s.arch, regs, uint64(rule.register))
	case ruleValueOffset:
		return cfa + uint64(rule.offset), true
	case ruleExpression:
		addr, ok := s.evaluate(regs, stack, row.expressions[rule.offset], cfa, true)
		if !ok {
			return 0, false
		}
		return stack.word(addr)
	case ruleValueExpression:
		return s.evaluate(regs, stack, row.expressions[rule.offset], cfa, true)
	}
	return 0, false
}

func (s *Space) evaluate(regs *Registers, stack *Stack, expression []byte, initial uint64, push bool) (uint64, bool) {
	e := evaluator{arch: s.arch, regs: regs, stack: *stack}
	return e.evaluate(expression, initial, push)
}

// value returns the value of a register in a frame, the program counter and
// stack pointer among them.
func value(arch *architecture, regs *Registers, number uint64) (uint64, bool) {
	switch {
	case number == uint64(arch.stackPointer):
		return regs.SP, true
	case number == uint64(arch.programCounter):
		return regs.PC, true
	case number >= registerCount:
		return 0, false
	}
	return regs.Known(int(number))
}

// row returns the unwind information of a runtime address, from the cache if
// it was asked for before.
func (s *Space) row(pc uint64) *row {
	slot := s.rows.slot(pc)
	if slot.row == nil || slot.pc != pc {
		slot.pc, slot.row = pc, s.computeRow(pc)
	}
	return slot.row
}

func (s *Space) computeRow(pc uint64) *row {
	r := s.find(pc)
	if r == nil || r.object == nil {
		return noRow
	}
	vaddr := pc - r.bias
	var computed row
	f, err := r.object.frame(vaddr)
	if err == nil {
		err = f.rowFor(vaddr, s.arch, &computed)
	}
	if err == nil {
		return s.rows.shared(&computed)
	}
	if r.object.framesError != nil {
		s.problems[r.path] = r.object.framesError
	}
	if section := r.object.section(vaddr); section != nil && section.stubs {
		return s.arch.stubRow(vaddr)
	}
	// Without unwind information a thread's first function is known by name.
	if name, _, ok := r.object.symbol(vaddr); ok && threadRoots[name] {
		return rootRow
	}
	return noRow
}

// threadRoots are the functions of C libraries that threads start in: the
// program's entry point, and what clone(2) returns into in glibc and musl.
var threadRoots = map[string]bool{
	"_start": true, "_start_c": true, "clone": true, "__clone": true, "clone3": true, "__clone3": true,
}
