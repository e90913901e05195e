package jit

// Kind tells what a range of JIT code is.
type Kind uint8

// The kinds of ranges, with the VM's names of theirs.
const (
	KindFunction Kind = iota // the code of a function: lists:map/2
	KindPrologue             // a function's description and entry: lists:map/2-CodeInfoPrologue
	KindFragment             // code shared by all modules: global::call_light_bif_shared
	KindHeader               // tables at a module's beginning, not code: lists::codeHeader
	KindFooter               // what follows a module's last function: lists::codeFooter
)

// Function is one range of JIT code. Values are small and can be copied.
type Function struct {
	// Name is for people: "lists:map/2", "Enum.map/2", "anonymous fn/1 in
	// Enum.map/2", "global::garbage_collect". A prologue has its function's.
	Name string
	// Raw is the VM's own name, as in the map that it writes for perf (there
	// with a $ before it): "lists:map/2", "'Elixir.Enum':map/2-CodeInfoPrologue".
	Raw string
	// Module is the module's name without quotes: "lists", "Elixir.Enum".
	Module string
	// Start and End are the first address and the one after the last.
	Start, End uint64
	Kind       Kind
	Global     bool // Kind is KindFragment

	code *module
	slot int
}

// Line returns the file, as the compiler was told it, and the line of the code
// at pc: the last one that the VM notes at or before pc. The VM notes a line
// where something can fail or call; the function's head is the first. A return
// address is that of the instruction after the call, so look it up at one less.
//
// The line is 0 and the file empty if pc is outside of the function, if the
// function has no lines (global fragments, modules compiled without them), or
// if none is noted at or before pc. A prologue has the line that its function
// begins with.
func (f Function) Line(pc uint64) (file string, line int) {
	if f.code == nil || pc < f.Start || pc >= f.End {
		return "", 0
	}
	slot, offset := f.slot, pc-f.code.base
	if f.Kind == KindPrologue {
		slot++
		if slot == len(f.code.ranges) || f.code.base+uint64(f.code.ranges[slot].start) != f.End {
			return "", 0
		}
		offset = uint64(f.code.ranges[slot].start)
	}
	return f.code.line(slot, offset)
}
