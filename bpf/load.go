package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// Types shared with the kernel side, as bpf2go reads them from its BTF.
type (
	Header     = samplerHeader    // head of a RecordSample, before its payload
	Term       = samplerTerm      // one element of the payload's terms part
	Caller     = samplerCaller    // head of one element of the payload's callers part
	Target     = samplerTarget    // where the fields of a VM's structs are
	Scheduler  = samplerScheduler // a thread's scheduler data
	CodeRecord = codeCodeRecord   // a whole RecordCode
)

// Record types: the first 32-bit word of every record.
const (
	RecordSample = 1
	RecordCode   = 2
)

// Flags of a sample, as in sampler.bpf.c.
const (
	SampleKernel      = 1 // the tick hit kernel code
	SampleNoRegisters = 2 // the user registers could not be found
	SampleIdentity    = 4 // Header.Identity holds $initial_call
	SampleEnded       = 8 // the process is no longer the scheduler's current one: it may be freed by now
)

// HeadSize is the number of bytes copied from the start of struct process.
const HeadSize = 512

// Programs that others end in, by their index in the map `programs`.
const (
	programMatch = iota
	programProcess
	programTerms
	programNested
)

// Counters of the kernel side, in the order of the map `counters`.
const (
	countOutputFailed = iota
)

// Programs are the loaded programs and their maps.
type Programs struct {
	Sample *ebpf.Program // perf event: one record per tick of a target's thread
	Code   *ebpf.Program // uprobe: one record per change of the JIT's code list
	Events *ebpf.Map     // perf event array of the samples

	// CodeEvents is the perf event array of those changes. They are few, and have
	// buffers of their own, that samples cannot fill.
	CodeEvents *ebpf.Map

	targets, schedulers, counters *ebpf.Map
	closers                       []func() error
}

// Load loads all programs. It needs CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN
// before Linux 5.8); its errors wrap os.ErrPermission without them.
func Load() (*Programs, error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raising the memory lock limit: %w", err)
	}
	spec, err := loadSampler()
	if err != nil {
		return nil, fmt.Errorf("reading the sampling program: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("counting the CPUs: %w", err)
	}
	spec.Maps[samplerMapScratch].MaxEntries = uint32(cpus)
	spec.Maps[samplerMapSchedulers].MaxEntries = maxSchedulers(cpus)
	var sampler samplerObjects
	if err := spec.LoadAndAssign(&sampler, nil); err != nil {
		return nil, fmt.Errorf("loading the sampling program: %w", err)
	}
	p := &Programs{
		Sample: sampler.Sample, Events: sampler.Events,
		targets: sampler.Targets, schedulers: sampler.Schedulers, counters: sampler.Counters,
		closers: []func() error{sampler.Close},
	}
	for index, program := range []*ebpf.Program{
		programMatch: sampler.SampleMatch, programProcess: sampler.SampleProcess, programTerms: sampler.SampleTerms, programNested: sampler.SampleNested,
	} {
		if err := sampler.Programs.Put(uint32(index), program); err != nil {
			p.Close()
			return nil, fmt.Errorf("linking the sampling programs: %w", err)
		}
	}
	var code codeObjects
	options := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"targets": p.targets}}
	if err := loadCodeObjects(&code, &options); err != nil {
		p.Close()
		return nil, fmt.Errorf("loading the code load program: %w", err)
	}
	p.Code, p.CodeEvents = code.CodeRegistered, code.Events
	p.closers = append(p.closers, code.Close)
	return p, nil
}

// maxSchedulers returns for how many threads with scheduler data there is room:
// for two VMs with as many as there can be (1024 schedulers, as many dirty ones
// and some more), and for 64 with as many as they have by default. The kernel
// clears all of the map's memory when it is made.
func maxSchedulers(cpus int) uint32 {
	return uint32(max(2*(1024+2*1024+64), 64*(2*cpus+16)))
}

// Close unloads the programs. What is attached to a perf event stays until
// that is closed, too.
func (p *Programs) Close() error {
	var errs []error
	for _, c := range p.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// AddTarget makes the sampling program sample the process pid (a tgid of the
// initial pid namespace).
func (p *Programs) AddTarget(pid int, t Target) error {
	if err := p.targets.Put(uint32(pid), t); err != nil {
		return fmt.Errorf("adding process %d to the sampler: %w", pid, err)
	}
	return nil
}

// RemoveTarget ends the sampling of a process.
func (p *Programs) RemoveTarget(pid int) error {
	return p.targets.Delete(uint32(pid))
}

// AddScheduler tells where the thread tid has its scheduler data.
func (p *Programs) AddScheduler(tid int, s Scheduler) error {
	if err := p.schedulers.Put(uint32(tid), s); err != nil {
		return fmt.Errorf("adding scheduler thread %d to the sampler: %w", tid, err)
	}
	return nil
}

// RemoveScheduler forgets the thread tid.
func (p *Programs) RemoveScheduler(tid int) error {
	return p.schedulers.Delete(uint32(tid))
}

// Samples returns how many ticks hit the process pid since it was added.
func (p *Programs) Samples(pid int) (uint64, error) {
	var t Target
	if err := p.targets.Lookup(uint32(pid), &t); err != nil {
		return 0, fmt.Errorf("reading the count of samples of process %d: %w", pid, err)
	}
	return t.Samples, nil
}

// OutputFailed returns of how many ticks the record found no room in the output
// buffer, over all targets.
func (p *Programs) OutputFailed() (total uint64, err error) {
	var values []uint64
	if err := p.counters.Lookup(uint32(countOutputFailed), &values); err != nil {
		return 0, fmt.Errorf("reading the sampler's counters: %w", err)
	}
	for _, v := range values {
		total += v
	}
	return total, nil
}
