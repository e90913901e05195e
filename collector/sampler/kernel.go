package sampler

import (
	"fmt"
	"slices"
	"time"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector/native"
)

// kernelNames names kernel code. From Linux 5.13 on the kernel is asked for the
// names that are needed. Before, the whole table is read, which is large: when
// there is something to name, and again after some time, since the kernel may
// have loaded modules.
type kernelNames struct {
	namer *bpf.KernelNamer
	tried bool // to load it

	symbols *native.KernelSymbols
	err     error
	read    time.Time
}

// maxKernelAge is for how long the kernel's symbols are believed.
const maxKernelAge = time.Hour

// functions returns the function that each address is in, or "".
func (k *kernelNames) functions(addresses []uint64) ([]string, error) {
	if !k.tried {
		k.tried = true
		k.namer, _ = bpf.LoadKernelNamer() // the table has the same names
	}
	if k.namer != nil {
		if functions, err := k.namer.Symbols(addresses); err == nil {
			for i, symbol := range functions {
				functions[i] = native.KernelFunction(symbol)
			}
			if slices.Contains(functions, "") {
				k.nameGenerated(functions, addresses)
			}
			return functions, nil
		}
	}
	return k.fromTable(addresses)
}

// generated are the names of pages of code that the kernel makes for ftrace and
// kprobes. Only its table has them (kernel/trace/ftrace.c and kernel/kprobes.c,
// from Linux 5.8 on).
var generated = []string{"ftrace_trampoline", "kprobe_insn_page", "kprobe_optinsn_page"}

// nameGenerated names what is in such pages. Without the table they have no names.
func (k *kernelNames) nameGenerated(functions []string, addresses []uint64) {
	table, _ := k.fromTable(addresses)
	for i, name := range table {
		if functions[i] == "" && slices.Contains(generated, name) {
			functions[i] = name
		}
	}
}

// fromTable returns the same as functions, as the kernel's table has it.
func (k *kernelNames) fromTable(addresses []uint64) ([]string, error) {
	if k.read.IsZero() || time.Since(k.read) > maxKernelAge {
		k.symbols, k.err = native.LoadKernelSymbols()
		k.read = time.Now()
	}
	if k.err != nil {
		return nil, k.err
	}
	functions := make([]string, len(addresses))
	for i, address := range addresses {
		if name, _, ok := k.symbols.Lookup(address); ok {
			functions[i] = name
		}
	}
	return functions, nil
}

func (k *kernelNames) close() error {
	if k.namer == nil {
		return nil
	}
	return k.namer.Close()
}

// nameKernel names all kernel frames that have no name yet. It comes last.
// Without permission to see the symbols, every kernel frame has one honest name
// and the error says why.
func (f *frames) nameKernel(names *kernelNames) error {
	if len(f.kernels) == 0 {
		return names.err
	}
	addresses := make([]uint64, len(f.kernels))
	for i, frame := range f.kernels {
		addresses[i] = frame.Address
	}
	functions, err := names.functions(addresses)
	for i, frame := range f.kernels {
		switch {
		case err != nil:
			frame.Function = "[kernel]"
		case functions[i] == "":
			frame.Function = fmt.Sprintf("[kernel]+%#x", frame.Address)
		default:
			frame.Function, frame.Resolved = sourceName(functions[i]), true
		}
	}
	f.kernels = f.kernels[:0]
	return err
}
