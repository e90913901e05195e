package native

import (
	"fmt"
	"path"

	"github.com/beamprof/beamprof/collector"
)

// Symbol is the function that a program counter is in.
type Symbol struct {
	// Name is the function's name, demangled; or "beam.smp+0x1234", the object
	// and the vaddr at which the function without a name starts, so that all
	// of its samples have one name. Where not even the start is known it is
	// the vaddr of the program counter, and outside of all objects the bare
	// program counter.
	Name     string
	Start    uint64             // runtime address of the function; 0 if not known
	Resolved bool               // Name is a name
	Mapping  *collector.Mapping // nil outside of all objects
}

// Symbol names the function of a frame. leaf tells that pc is where a thread
// is; else it is a return address, which can lie behind the end of the
// function that called: then the byte before it counts.
func (s *Space) Symbol(pc uint64, leaf bool) Symbol {
	at := pc
	if !leaf {
		at--
	}
	r := s.find(at)
	if r == nil {
		return Symbol{Name: fmt.Sprintf("%#x", pc)}
	}
	if r.object == nil {
		// Without program headers the place in the file is all there is.
		return Symbol{Name: fmt.Sprintf("%s+%#x", path.Base(r.path), at-r.start+r.offset), Mapping: r.mapping}
	}
	vaddr := at - r.bias
	if name, start, ok := r.object.symbol(vaddr); ok {
		return Symbol{Name: name, Start: start + r.bias, Resolved: true, Mapping: r.mapping}
	}
	if f, err := r.object.frame(vaddr); err == nil {
		return Symbol{Name: fmt.Sprintf("%s+%#x", r.object.name, f.start), Start: f.start + r.bias, Mapping: r.mapping}
	}
	return Symbol{Name: fmt.Sprintf("%s+%#x", r.object.name, vaddr), Mapping: r.mapping}
}

// SymbolAddress returns the runtime address of a function or variable, by the
// object's file name or whole path and the symbol's name without its version.
func (s *Space) SymbolAddress(object, name string) (uint64, bool) {
	for _, r := range s.regions {
		if r.path != object && path.Base(r.path) != object {
			continue
		}
		if s.find(r.start) == nil || r.object == nil {
			continue
		}
		if vaddr, ok := r.object.lookup(name); ok {
			return vaddr + r.bias, true
		}
	}
	return 0, false
}
