package sampler

import (
	"fmt"

	"github.com/beamprof/beamprof/collector/native"
)

// nameKernel names all kernel frames of the session. It comes last: the table of
// kernel symbols is large and needed once. Without permission to see it, every
// kernel frame has one honest name and the error says why.
func (f *frames) nameKernel() error {
	if len(f.kernels) == 0 {
		return nil
	}
	symbols, err := native.LoadKernelSymbols()
	for _, frame := range f.kernels {
		if err != nil {
			frame.Function = "[kernel]"
			continue
		}
		name, _, ok := symbols.Lookup(frame.Address)
		if !ok {
			name = fmt.Sprintf("[kernel]+%#x", frame.Address)
		}
		frame.Function, frame.Resolved = name, ok
	}
	f.kernels = f.kernels[:0]
	return err
}
