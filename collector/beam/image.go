package beam

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
)

// image is the program a process executes: its symbols, and where it is loaded.
// It is read through /proc/PID/exe, which leads to the very file that is
// executed, whichever mount namespace it is in and even if it was replaced.
type image struct {
	path string // /proc/PID/exe
	bias uint64 // what is added to the file's addresses

	dynamic map[string]symbol
	static  func() map[string]symbol // .symtab, read when first needed
}

// symbol is an entry of a symbol table. The address is the file's, without bias.
type symbol struct{ address, size uint64 }

// openImage reads the symbol table and the load address of the program of process pid.
func openImage(pid int) (*image, error) {
	i := &image{path: fmt.Sprintf("/proc/%d/exe", pid)}
	i.static = sync.OnceValue(func() map[string]symbol {
		symbols, _, _ := readELF(i.path, (*elf.File).Symbols)
		return symbols
	})
	symbols, entry, err := readELF(i.path, (*elf.File).DynamicSymbols)
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return nil, fmt.Errorf("read the program of process %d: %w", pid, err)
	}
	i.dynamic = symbols
	running, err := entryPoint(pid)
	if err != nil {
		return nil, err
	}
	i.bias = running - entry
	return i, nil
}

// lookup returns the runtime address and the size in bytes of a function or variable.
func (i *image) lookup(name string) (symbol, bool) {
	s, ok := i.dynamic[name]
	if !ok {
		s, ok = i.static()[name]
	}
	if !ok {
		return symbol{}, false
	}
	s.address += i.bias
	return s, true
}

// readELF returns the symbols and the entry point of an ELF file. The file is
// the target's and debug/elf is not made for hostile ones: its panics become errors.
func readELF(path string, table func(*elf.File) ([]elf.Symbol, error)) (symbols map[string]symbol, entry uint64, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("malformed ELF file: %v", r)
		}
	}()
	file, err := elf.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	list, err := table(file)
	if err != nil {
		return nil, file.Entry, err
	}
	symbols = make(map[string]symbol, len(list))
	for _, s := range list {
		if kind := elf.ST_TYPE(s.Info); s.Section != elf.SHN_UNDEF && (kind == elf.STT_FUNC || kind == elf.STT_OBJECT) {
			symbols[s.Name] = symbol{s.Value, s.Size}
		}
	}
	return symbols, file.Entry, nil
}

// entryPoint returns the runtime address of a process's entry point, as the
// kernel told its dynamic linker (AT_ENTRY in the auxiliary vector, getauxval(3)).
func entryPoint(pid int) (uint64, error) {
	const atEntry = 9
	vector, err := os.ReadFile(fmt.Sprintf("/proc/%d/auxv", pid))
	if err != nil {
		return 0, fmt.Errorf("read the auxiliary vector of process %d: %w", pid, err)
	}
	for ; len(vector) >= 16; vector = vector[16:] {
		if binary.NativeEndian.Uint64(vector) == atEntry {
			return binary.NativeEndian.Uint64(vector[8:]), nil
		}
	}
	return 0, fmt.Errorf("no entry point in the auxiliary vector of process %d", pid)
}
