package distribution

import (
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// maxPeople bounds the table of processes; beyond it, it is emptied.
const maxPeople = 1 << 15

// people names the VM's processes.
type people struct {
	target *beam.Target
	known  map[uint64]*collector.Process // by pid term; nil if it was gone
}

func newPeople(target *beam.Target) *people {
	return &people{target: target, known: map[uint64]*collector.Process{}}
}

// find returns the process with a pid of this VM, or nil.
func (p *people) find(pid uint64) *collector.Process {
	if known, ok := p.known[pid]; ok {
		return known
	}
	var found *collector.Process
	if address, ok := p.target.ProcessByPID(pid); ok {
		head := make([]byte, beam.HeadSize)
		if p.target.Memory.Read(head, address) == nil {
			found, _ = p.target.Identify(address, head, "", beam.Copied{})
		}
	}
	if len(p.known) >= maxPeople {
		clear(p.known)
	}
	p.known[pid] = found
	return found
}
