package sampler

import (
	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// portKey is what a port is told by: ids are used again only after all others.
type portKey struct {
	id        string
	connected uint64
}

// ports knows the ports that were seen.
type ports struct {
	target *beam.Target
	people *people
	known  map[portKey]*collector.Port
}

// maxPorts bounds the table of ports; beyond it, it is emptied.
const maxPorts = 1 << 14

func newPorts(target *beam.Target, people *people) *ports {
	return &ports{target: target, people: people, known: map[portKey]*collector.Port{}}
}

// get returns the port at an address, or nil if there is none any more. The
// memory of a port that was closed may hold another one by now: that shows only
// in few of the samples of ports that live for milliseconds.
func (p *ports) get(address uint64) *collector.Port {
	if address == 0 {
		return nil
	}
	read, err := p.target.Port(address)
	if err != nil {
		return nil
	}
	key := portKey{read.ID, read.Connected}
	if known, ok := p.known[key]; ok {
		return known
	}
	if len(p.known) >= maxPorts {
		clear(p.known)
	}
	made := &collector.Port{ID: read.ID, Name: read.Name, Driver: read.Driver, Owner: p.people.byPID(read.Connected)}
	p.known[key] = made
	return made
}

// byPID returns the process of this node with a pid, nil if nothing is known of it.
func (p *people) byPID(id uint64) *collector.Process {
	if known, ok := p.known[id]; ok {
		return known.Process
	}
	address, ok := p.target.ProcessByPID(id)
	if !ok {
		return nil
	}
	head := make([]byte, bpf.HeadSize)
	if p.target.Memory.Read(head, address) != nil || wordAt(head, p.target.Layout.Process.ID) != id {
		return nil
	}
	made, err := p.target.Identify(address, head, "", beam.Copied{})
	if err != nil {
		return nil
	}
	return made
}
