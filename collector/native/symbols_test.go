package native

import (
	"debug/elf"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// names of the functions of testdata/chain.c that are static: nothing names
// them once the file is stripped.
var staticFunctions = []string{"compare", "work", "on_signal", "before_fault"}

// In a stripped library static functions lie between exported ones, whose
// names they must not get; each has a name by its start.
func TestStaticFunctionsOfStrippedObject(t *testing.T) {
	strip := testsupport.RequireCommand(t, "strip", "binutils")
	whole := compile(t, "-shared", "-fPIC")
	stripped := filepath.Join(t.TempDir(), "stripped.so")
	if out, err := exec.Command(strip, "-o", stripped, whole).CombinedOutput(); err != nil {
		t.Fatalf("strip: %v\n%s", err, out)
	}
	functions := functionsOf(t, whole)
	o := openObject(t, stripped)
	s := spaceOf(o, 0x7f0000000000)
	unnamed := map[string]bool{}
	for _, name := range staticFunctions {
		unnamed[name] = true
	}
	compared := 0
	for _, f := range functions {
		if f.Size == 0 {
			continue
		}
		compared++
		want := f.Name
		if unnamed[f.Name] || elf.ST_BIND(f.Info) == elf.STB_LOCAL {
			want = fmt.Sprintf("stripped.so+%#x", f.Value)
		}
		for _, at := range []uint64{0, f.Size / 2, f.Size - 1} {
			got := s.Symbol(0x7f0000000000+f.Value+at, true)
			if got.Name != want || got.Start != 0x7f0000000000+f.Value || got.Resolved != (want == f.Name) {
				t.Errorf("%s+%d: %+v", f.Name, at, got)
			}
		}
		// A call that never returns can be a function's last instruction.
		if got := s.Symbol(0x7f0000000000+f.Value+f.Size, false); got.Name != want {
			t.Errorf("return address behind %s: %+v", f.Name, got)
		}
	}
	if compared < 2*len(staticFunctions) {
		t.Errorf("only %d functions", compared)
	}
}

// spaceOf is an address space with one object, for tests without a process.
func spaceOf(o *object, bias uint64) *Space {
	s := &Space{arch: o.arch, problems: map[string]error{}, addressMask: 1<<48 - 1}
	for i := range o.segments {
		if p := &o.segments[i]; p.Flags&elf.PF_X != 0 {
			s.regions = append(s.regions, &region{
				mapLine: mapLine{start: bias + p.Vaddr, limit: bias + p.Vaddr + p.Filesz, offset: p.Off, path: "/" + o.name},
				state:   regionOpen, object: o, bias: bias,
			})
		}
	}
	return s
}

// functionsOf are the functions of the program's own source by debug/elf.
func functionsOf(t *testing.T, path string) (functions []elf.Symbol) {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && s.Section != elf.SHN_UNDEF {
			functions = append(functions, s)
		}
	}
	return functions
}

// Every exported function of installed objects is found by its own address,
// at its start and its last byte, under one of its names.
func TestSymbolsEqualDebugELF(t *testing.T) {
	for _, path := range installed(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			file, err := elf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			symbols, err := file.DynamicSymbols()
			if err != nil {
				t.Fatal(err)
			}
			o, known := openObject(t, path), map[[2]uint64]map[string]bool{}
			for _, s := range symbols {
				if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Section == elf.SHN_UNDEF || s.Size == 0 {
					continue
				}
				key := [2]uint64{s.Value, s.Size}
				if known[key] == nil {
					known[key] = map[string]bool{}
				}
				known[key][demangled(s.Name)] = true
				if len(known) > 100 {
					continue // lookup reads all names each time
				}
				if vaddr, ok := o.lookup(s.Name); !ok || vaddr != s.Value && !otherVersion(symbols, s.Name, vaddr) {
					t.Errorf("lookup of %s: %#x, %v, not %#x", s.Name, vaddr, ok, s.Value)
				}
			}
			for key, names := range known {
				for _, vaddr := range []uint64{key[0], key[0] + key[1] - 1} {
					name, start, ok := o.symbol(vaddr)
					// A function may have entry points inside, which have names, too.
					if !ok || start < key[0] || start == key[0] && !names[name] && !o.sameStart(key) {
						t.Errorf("%#x: %s from %#x, not one of %v", vaddr, name, start, names)
					}
				}
			}
		})
	}
}

// otherVersion tells whether a symbol has a version with another address.
func otherVersion(symbols []elf.Symbol, name string, vaddr uint64) bool {
	for _, s := range symbols {
		if s.Name == name && s.Value == vaddr {
			return true
		}
	}
	return false
}

// sameStart tells whether functions of several sizes start at one address.
func (o *object) sameStart(key [2]uint64) bool {
	for _, e := range o.symbols.entries {
		if o.symbols.base+uint64(e.start) == key[0] && uint64(e.size) != key[1] {
			return true
		}
	}
	return false
}

func TestNames(t *testing.T) {
	for mangled, want := range map[string]string{
		"erts_schedule":               "erts_schedule",
		"hold.cold":                   "hold.cold",
		"_ZN6asmjit9Assembler4initEv": "asmjit::Assembler::init",
		"_ZNSt6vectorIN13BeamAssembler8AsmRangeESaIS1_EE17_M_realloc_insertIJS1_EEEvN9__gnu_cxx17__normal_iteratorIPS1_S3_EEDpOT_": "std::vector::_M_realloc_insert",
		"_RNvCs1234_7mycrate3foo": "mycrate::foo",
		"_ZN":                     "_ZN",
		"":                        "",
	} {
		if got := demangled(mangled); got != want {
			t.Errorf("%s: %s, want %s", mangled, got, want)
		}
	}
	for _, pair := range [][2]symbolName{
		{{"read", rankWeak}, {"__libc_read", rankGlobal}},
		{{"memcpy", rankGlobal}, {"memmove", rankGlobal}},
		{{"b", rankGlobal}, {"a", rankLocal}},
		{{"ab", rankGlobal}, {"abc", rankGlobal}},
	} {
		want := pair[0].better(pair[1])
		if want == pair[1].better(pair[0]) {
			t.Errorf("no order between %v", pair)
		}
	}
	if !(symbolName{"read", rankWeak}).better(symbolName{"__libc_read", rankGlobal}) {
		t.Error("an internal name is shown where a public one exists")
	}
}
