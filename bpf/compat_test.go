package bpf

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// TestObjectsLoadOnLinux54 walks all that the committed objects hold and fails
// on whatever Linux 5.4 does not know, or what could not load without the
// kernel's BTF. It cannot tell whether the verifier of 5.4 accepts a program.
func TestObjectsLoadOnLinux54(t *testing.T) {
	for _, architecture := range []string{"x86", "arm64"} {
		paths, err := filepath.Glob("*_" + architecture + "_bpfel.o")
		if err != nil {
			t.Fatal(err)
		}
		if len(paths) == 0 {
			t.Errorf("no objects for %s", architecture)
		}
		for _, path := range paths {
			t.Run(path, func(t *testing.T) {
				spec, err := ebpf.LoadCollectionSpec(path)
				if err != nil {
					t.Fatal(err)
				}
				if len(spec.Programs) == 0 {
					t.Error("no programs")
				}
				for _, violation := range violations(spec, upgrades[strings.TrimSuffix(path, "_"+architecture+"_bpfel.o")]...) {
					t.Error(violation)
				}
				for name, program := range spec.Programs {
					t.Logf("program %s: %s, %d instructions", name, program.Type, length(program.Instructions))
				}
				for name, m := range spec.Maps {
					t.Logf("map %s: %s, %d entries of %d bytes", name, m.Type, m.MaxEntries, m.ValueSize)
				}
			})
		}
	}
}

// violations lists everything in a collection that Linux 5.4 would refuse, but
// for the helpers that are allowed nevertheless.
func violations(spec *ebpf.CollectionSpec, allowed ...asm.BuiltinFunc) []string {
	var found []string
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	if spec.Types != nil {
		var symbols *btf.Datasec
		if spec.Types.TypeByName(".ksyms", &symbols) == nil {
			add("collection: .ksyms: kernel symbols and kernel functions need the kernel's BTF or names")
		}
	}
	for name, m := range spec.Maps {
		for _, problem := range mapViolations(m) {
			add("map %s: %s", name, problem)
		}
	}
	for name, program := range spec.Programs {
		for _, problem := range programViolations(program, spec.Maps, allowed) {
			add("program %s: %s", name, problem)
		}
	}
	slices.Sort(found)
	return found
}

func mapViolations(m *ebpf.MapSpec) (found []string) {
	if m.Type > lastMapType {
		found = append(found, fmt.Sprintf("type %s is newer than 5.4", m.Type))
	}
	if unknown := m.Flags &^ knownMapFlags; unknown != 0 {
		found = append(found, fmt.Sprintf("flags %#x are newer than 5.4", unknown))
	}
	if m.MapExtra != 0 {
		found = append(found, "map_extra came with 5.16")
	}
	for _, part := range []btf.Type{m.Key, m.Value} {
		if part == nil {
			continue
		}
		for inner := range allTypes(part) {
			if name := inner.TypeName(); managedTypes[name] {
				found = append(found, fmt.Sprintf("struct %s is newer than 5.4", name))
			}
			if tag, ok := inner.(*btf.TypeTag); ok && strings.HasPrefix(tag.Value, "kptr") {
				found = append(found, "pointers to kernel objects came with 5.19")
			}
		}
	}
	if m.InnerMap != nil {
		for _, problem := range mapViolations(m.InnerMap) {
			found = append(found, "inner map: "+problem)
		}
	}
	return found
}

// allTypes yields a type and all types below it, once each.
func allTypes(root btf.Type) map[btf.Type]bool {
	seen := map[btf.Type]bool{}
	var visit func(btf.Type)
	visit = func(current btf.Type) {
		if current == nil || seen[current] {
			return
		}
		seen[current] = true
		switch current := current.(type) {
		case *btf.Struct:
			for _, member := range current.Members {
				visit(member.Type)
			}
		case *btf.Union:
			for _, member := range current.Members {
				visit(member.Type)
			}
		case *btf.Array:
			visit(current.Type)
		case *btf.Pointer:
			visit(current.Target)
		case *btf.Typedef:
			visit(current.Type)
		case *btf.Const:
			visit(current.Type)
		case *btf.Volatile:
			visit(current.Type)
		case *btf.Restrict:
			visit(current.Type)
		case *btf.TypeTag:
			visit(current.Type)
		}
	}
	visit(root)
	return seen
}

func programViolations(program *ebpf.ProgramSpec, maps map[string]*ebpf.MapSpec, allowed []asm.BuiltinFunc) (found []string) {
	add := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	if program.Type == ebpf.UnspecifiedProgram || program.Type > lastProgramType {
		add("type %s is newer than 5.4", program.Type)
	}
	if program.AttachType > lastAttachType {
		add("attach type %s is newer than 5.4", program.AttachType)
	}
	if unknown := program.Flags &^ knownProgramFlags; unknown != 0 {
		add("flags %#x are newer than 5.4", unknown)
	}
	if n := length(program.Instructions); n > maxInstructions {
		add("%d instructions are more than %d", n, maxInstructions)
	}
	var calls, tailCalls bool
	for index := range program.Instructions {
		instruction := &program.Instructions[index]
		at := func(format string, args ...any) {
			add("instruction %d (%v): %s", index, instruction, fmt.Sprintf(format, args...))
		}
		if btf.CORERelocationMetadata(instruction) != nil {
			at("a CO-RE relocation needs the kernel's BTF")
		}
		switch {
		case instruction.IsBuiltinCall():
			helper := asm.BuiltinFunc(instruction.Constant)
			tailCalls = tailCalls || helper == asm.FnTailCall
			if problem := helperViolation(program.Type, helper); problem != "" && !slices.Contains(allowed, helper) {
				at("%s", problem)
			}
		case instruction.IsFunctionCall():
			calls = true
		default:
			if problem := instructionViolation(instruction); problem != "" {
				at("%s", problem)
			}
		}
		if problem := mapUseViolation(program.Type, maps[instruction.Reference()]); instruction.IsLoadFromMap() && problem != "" {
			at("%s", problem)
		}
	}
	if calls && tailCalls {
		add("tail calls beside calls of BPF functions came with 5.10")
	}
	return found
}

// length returns the number of instructions as the kernel counts them: a load
// of 64 bits is two.
func length(instructions asm.Instructions) (n asm.RawInstructionOffset) {
	for index := range instructions {
		n += instructions[index].Width()
	}
	return n
}

func helperViolation(program ebpf.ProgramType, helper asm.BuiltinFunc) string {
	if rewrittenHelpers[helper] {
		return ""
	}
	if helper > lastHelper {
		return "the helper is newer than 5.4"
	}
	lists, known := helpersByType[program]
	if !known || slices.ContainsFunc(lists, func(list []asm.BuiltinFunc) bool { return slices.Contains(list, helper) }) {
		return ""
	}
	return fmt.Sprintf("5.4 has this helper not in programs of type %s", program)
}

// mapUseViolation knows check_map_prog_compatibility of kernel/bpf/verifier.c
// in v5.4: what runs in an NMI must not allocate.
func mapUseViolation(program ebpf.ProgramType, m *ebpf.MapSpec) string {
	if m == nil || program != ebpf.PerfEvent {
		return ""
	}
	const noPreallocation = 1 // BPF_F_NO_PREALLOC
	for ; m != nil; m = m.InnerMap {
		hash := m.Type == ebpf.Hash || m.Type == ebpf.PerCPUHash || m.Type == ebpf.HashOfMaps
		if hash && m.Flags&noPreallocation != 0 {
			return "up to 5.5 perf_event programs may use preallocated hash maps only"
		}
	}
	return ""
}

// instructionViolation knows the instruction set of Linux 5.4: all of
// Documentation/networking/filter.txt in v5.4 and the 32-bit jumps (BPF_JMP32,
// since 5.1). What is not listed is newer.
func instructionViolation(instruction *asm.Instruction) string {
	op := instruction.OpCode
	switch class := op.Class(); class {
	case asm.ALUClass, asm.ALU64Class:
		switch op.ALUOp() {
		case asm.Swap:
			if class == asm.ALU64Class {
				return "bswap came with 6.6"
			}
		case asm.Add, asm.Sub, asm.Mul, asm.Div, asm.Or, asm.And, asm.LSh, asm.RSh, asm.Neg, asm.Mod, asm.Xor, asm.Mov, asm.ArSh:
		default:
			return "signed division and sign-extending moves came with 6.6"
		}
		if instruction.Offset != 0 {
			return "this form of an arithmetic instruction is newer than 5.4"
		}
	case asm.JumpClass, asm.Jump32Class:
		switch op.JumpOp() {
		case asm.Call:
			return "calls of kernel functions came with 5.13"
		case asm.Ja, asm.Exit:
			if class == asm.Jump32Class {
				return "long jumps came with 6.6"
			}
		case asm.JEq, asm.JGT, asm.JGE, asm.JSet, asm.JNE, asm.JSGT, asm.JSGE, asm.JLT, asm.JLE, asm.JSLT, asm.JSLE:
		default:
			return "this jump is newer than 5.4"
		}
	case asm.LdClass:
		switch {
		case op.IsDWordLoad():
			// Later ones are kernel variables (5.10), functions (5.13) and map indexes (5.14).
			if instruction.Src > asm.PseudoMapValue {
				return "this kind of 64-bit immediate is newer than 5.4"
			}
		case op.Mode() != asm.AbsMode && op.Mode() != asm.IndMode:
			return "this load is newer than 5.4"
		}
	case asm.LdXClass:
		if op.Mode() != asm.MemMode {
			return "sign-extending loads came with 6.6"
		}
	case asm.StClass:
		if op.Mode() != asm.MemMode {
			return "this store is newer than 5.4"
		}
	case asm.StXClass:
		atomicAdd := op.Mode() == asm.AtomicMode && op.AtomicOp() == asm.AddAtomic
		if op.Mode() != asm.MemMode && !atomicAdd {
			return "atomic operations other than an addition that fetches nothing came with 5.12"
		}
	}
	return ""
}
