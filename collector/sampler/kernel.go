package sampler

import (
	"fmt"
	"time"

	"github.com/beamprof/beamprof/collector/native"
)

// kernelNames are the names of kernel code. The table is large: it is read when
// there is something to name, and again after some time, since the kernel may
// have loaded modules.
type kernelNames struct {
	symbols *native.KernelSymbols
	err     error
	read    time.Time
}

// maxKernelAge is for how long the kernel's symbols are believed.
const maxKernelAge = time.Hour

func (k *kernelNames) load() (*native.KernelSymbols, error) {
	if k.read.IsZero() || time.Since(k.read) > maxKernelAge {
		k.symbols, k.err = native.LoadKernelSymbols()
		k.read = time.Now()
	}
	return k.symbols, k.err
}

// nameKernel names all kernel frames that have no name yet. It comes last.
// Without permission to see the symbols, every kernel frame has one honest name
// and the error says why.
func (f *frames) nameKernel(names *kernelNames) error {
	if len(f.kernels) == 0 {
		return names.err
	}
	symbols, err := names.load()
	for _, frame := range f.kernels {
		if err != nil {
			frame.Function = "[kernel]"
			continue
		}
		name, _, ok := symbols.Lookup(frame.Address)
		if !ok {
			name = fmt.Sprintf("[kernel]+%#x", frame.Address)
		}
		frame.Function, frame.Resolved = sourceName(name), ok
	}
	f.kernels = f.kernels[:0]
	return err
}
