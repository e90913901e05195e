package beam

import (
	"encoding/binary"
	"fmt"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Scheduler is one scheduler of the VM and the thread that runs it.
type Scheduler struct {
	Kind      collector.ThreadKind // ThreadScheduler, ThreadDirtyCPU or ThreadDirtyIO
	Number    int                  // from 1, in its kind
	Data      uint64               // address of its ErtsSchedulerData
	Registers uint64               // its C stack lies just below this address; 0 on dirty schedulers
	TID       int                  // of its thread, in the pid namespace that /proc shows

	pthread uint64 // pthread_t: the C library's address of the thread's own structure
}

// schedulerArrays are the variables that hold the schedulers of each kind,
// pointers to arrays of cache-line aligned ErtsSchedulerData (erl_process.c,
// 23 to 27), and the value of the field type of their elements (ErtsSchedType).
var schedulerArrays = []struct {
	variable string
	kind     collector.ThreadKind
	value    uint32
}{
	{"erts_aligned_scheduler_data", collector.ThreadScheduler, 0},
	{"erts_aligned_dirty_cpu_scheduler_data", collector.ThreadDirtyCPU, 1},
	{"erts_aligned_dirty_io_scheduler_data", collector.ThreadDirtyIO, 2},
}

// readSchedulers reads the VM's schedulers, without their thread ids, and
// checks their type and number. The error wraps ErrUnsupported if they
// are not as expected, or have no threads.
func (t *Target) readSchedulers() ([]Scheduler, error) {
	counts := []int{t.NormalSchedulers, t.DirtyCPUSchedulers, t.DirtyIOSchedulers}
	var all []Scheduler
	for i, array := range schedulerArrays {
		v := variables{image: t.image, memory: t.Memory}
		base := v.word(array.variable)
		if v.err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnsupported, v.err)
		}
		for n := range counts[i] {
			s := Scheduler{Kind: array.kind, Number: n + 1, Data: base + uint64(n)*uint64(t.Layout.SchedulerSlot.Stride)}
			if err := s.read(t.Memory, &t.Layout.Scheduler, array.value); err != nil {
				return nil, fmt.Errorf("%v %d: %w", s.Kind, s.Number, err)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

// read fills in registers and thread, and checks the type and the number.
func (s *Scheduler) read(m memory.Reader, l *SchedulerLayout, kind uint32) error {
	data := make([]byte, max(l.Registers, l.ThreadID, l.Type, l.Number, l.DirtyNumber)+8)
	if err := m.Read(data, s.Data); err != nil {
		return fmt.Errorf("%w: scheduler data: %w", ErrUnsupported, err)
	}
	word := func(o Offset) uint64 { return binary.NativeEndian.Uint64(data[o:]) }
	number, other := word(l.Number), word(l.DirtyNumber)
	if kind != 0 {
		number, other = other, number
	}
	if got := binary.NativeEndian.Uint32(data[l.Type:]); got != kind || number != uint64(s.Number) || other != 0 {
		return fmt.Errorf("%w: the scheduler data at %#x says type %d, numbers %d and %d", ErrUnsupported, s.Data, got, word(l.Number), word(l.DirtyNumber))
	}
	s.pthread = word(l.ThreadID)
	if kind == 0 {
		s.Registers = word(l.Registers)
	}
	if s.pthread == 0 || kind == 0 && s.Registers == 0 {
		return fmt.Errorf("%w: no thread runs it", ErrUnsupported)
	}
	return nil
}
