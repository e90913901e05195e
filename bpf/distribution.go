package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/rlimit"
)

// Types shared with distribution.bpf.c, as bpf2go reads them from its BTF.
type (
	Message      = distributionMessage      // head of a RecordSent or RecordReceived
	HeapTerm     = distributionHeapTerm     // one element of the payload's terms part
	Distribution = distributionDistribution // the VM and where fields are in its structs
)

// Record types of the distribution's probes, behind those of the sampler.
const (
	RecordSent     = 3
	RecordReceived = 4
)

// Limits of what the probes copy, as in distribution.bpf.c.
const (
	MessageMax = 1024 // bytes of a message received
	AtomsMax   = 32   // numbered atoms of one
)

// Traffic is what went over one connection in one direction, counted exactly.
type Traffic struct {
	Entry      uint64 // address of its dist_entry_
	Connection uint32
	Received   bool
	Node       uint64 // atom
	Messages   uint64
	Packets    uint64
	Bytes      uint64
}

// DistributionCounts are what the probes could not do.
type DistributionCounts struct {
	OutputFailed uint64 // copies that found no room in the output buffer
	Busy         uint64 // messages neither counted nor copied: all records were in use
	NotFound     uint64 // messages sent and not counted: what is sent could not be read
	NoRoom       uint64 // messages not counted: too many connections
}

// DistributionPrograms are the probes of messages between nodes.
type DistributionPrograms struct {
	Sent     *ebpf.Program // uprobe in erts_dsig_send, where a message is encoded
	Received *ebpf.Program // uprobe on erts_net_message
	Events   *ebpf.Map     // perf event array that all records go to
	// Multi says to attach them as links of several uprobes, which are out of the
	// code as soon as they are closed. As perf events they stay in, doing
	// nothing, until the kernel has waited for all that may be using them.
	Multi bool

	settings Distribution
	objects  distributionObjects
}

// LoadDistribution loads the probes for one VM. It needs what Load needs.
func LoadDistribution(settings Distribution) (*DistributionPrograms, error) {
	// Before 5.11 maps count against RLIMIT_MEMLOCK.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raising the memory lock limit: %w", err)
	}
	p := &DistributionPrograms{Multi: haveUprobeMulti(), settings: settings}
	spec, err := loadDistribution()
	if err != nil {
		return nil, fmt.Errorf("reading the distribution's probes: %w", err)
	}
	if p.Multi {
		for _, program := range spec.Programs {
			program.AttachType = ebpf.AttachTraceUprobeMulti
		}
	}
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("loading the distribution's probes: %w", err)
	}
	p.Sent, p.Received, p.Events = p.objects.DistributionSent, p.objects.DistributionReceived, p.objects.Events
	if err := p.objects.Distributions.Put(uint32(0), settings); err != nil {
		p.Close()
		return nil, fmt.Errorf("setting up the distribution's probes: %w", err)
	}
	return p, nil
}

// haveUprobeMulti tells whether the kernel has links of several uprobes that go
// by the process asked for: Linux 6.6 has them, and 6.10 also for each thread of
// the process (commit 46ba0e49b642).
func haveUprobeMulti() bool {
	version, err := features.LinuxVersionCode()
	return err == nil && version >= 6<<16|10<<8 && features.HaveBPFLinkUprobeMulti() == nil
}

// Renew forgets what was read of the VM before. It must be called when the probes
// were out of the VM.
func (p *DistributionPrograms) Renew() error {
	p.settings.Generation += 1 << 16 // the probes count up, too
	if err := p.objects.Distributions.Put(uint32(0), p.settings); err != nil {
		return fmt.Errorf("setting up the distribution's probes: %w", err)
	}
	return nil
}

// AddStack tells where the C stack of the scheduler thread tid begins.
func (p *DistributionPrograms) AddStack(tid int, base uint64) error {
	if err := p.objects.Stacks.Put(uint32(tid), base); err != nil {
		return fmt.Errorf("adding scheduler thread %d to the distribution's probes: %w", tid, err)
	}
	return nil
}

// Traffic returns what was counted, for each connection and direction.
func (p *DistributionPrograms) Traffic() ([]Traffic, error) {
	var all []Traffic
	var key distributionTrafficKey
	var perCPU []distributionTraffic
	entries := p.objects.Carried.Iterate()
	for entries.Next(&key, &perCPU) {
		t := Traffic{Entry: key.Entry, Connection: key.Connection, Received: key.Direction != 0}
		for _, one := range perCPU {
			t.Messages += one.Messages
			t.Packets += one.Packets
			t.Bytes += one.Bytes
			if one.Node != 0 {
				t.Node = one.Node
			}
		}
		all = append(all, t)
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("reading what the distribution's probes counted: %w", err)
	}
	return all, nil
}

// Counts returns what the probes could not do.
func (p *DistributionPrograms) Counts() (DistributionCounts, error) {
	var sums [4]uint64
	for i := range sums {
		var perCPU []uint64
		if err := p.objects.Counters.Lookup(uint32(i), &perCPU); err != nil {
			return DistributionCounts{}, fmt.Errorf("reading the counters of the distribution's probes: %w", err)
		}
		for _, one := range perCPU {
			sums[i] += one
		}
	}
	return DistributionCounts{sums[0], sums[1], sums[2], sums[3]}, nil
}

// Close unloads the probes. What is attached stays until that is closed, too.
func (p *DistributionPrograms) Close() error {
	return p.objects.Close()
}
