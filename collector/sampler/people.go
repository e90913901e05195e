package sampler

import (
	"strings"

	"github.com/beamprof/beamprof/bpf"
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// people knows the Erlang processes that were seen.
type people struct {
	target  *beam.Target
	known   map[uint64]person // by pid term
	callers map[uint64]string // kinds of processes never sampled, by pid term
}

// forget drops what is known if it is more than a window's worth.
func (p *people) forget() {
	if len(p.known)+len(p.callers) > keptPeople {
		p.known, p.callers = map[uint64]person{}, map[uint64]string{}
	}
}

// person is a process and what its name was derived from.
type person struct {
	*collector.Process
	registered uint64 // Process.common.u.alive.reg at that time
}

// maxPeople bounds the table of processes; beyond it, it is emptied.
const maxPeople = 1 << 15

// keptPeople is how many processes are remembered from one window to the next.
const keptPeople = 1 << 12

func newPeople(target *beam.Target) *people {
	return &people{target: target, known: map[uint64]person{}, callers: map[uint64]string{}}
}

// get returns the process whose struct is at an address and begins with head.
// root is the function at the root of its stack, copied what the kernel side read.
// sure tells that another look would not tell better.
func (p *people) get(address uint64, head []byte, root string, copied beam.Copied) (process *collector.Process, sure bool) {
	layout := &p.target.Layout.Process
	id, registered := wordAt(head, layout.ID), wordAt(head, layout.Registered)
	if known, ok := p.known[id]; ok && known.registered == registered {
		return known.Process, true
	}
	made, err := p.target.Identify(address, head, root, copied)
	if err != nil {
		return nil, true
	}
	if len(p.known) > maxPeople {
		p.known = map[uint64]person{}
	}
	sure = !isProvisional(made) && !copied.Collecting
	if sure {
		p.known[id] = person{made, registered}
	}
	return made, sure
}

// isProvisional tells whether something of a process is only what it is called
// as long as nothing better is known: another look may tell more.
func isProvisional(p *collector.Process) bool {
	switch p.Name {
	case "", "unknown", "erlang:apply/2":
		return true
	}
	return strings.HasPrefix(p.InitialCall, "proc_lib:init_p/")
}

// kind returns the kind of the process with a pid of this node, as far as it is
// still there or was seen before.
func (p *people) kind(id uint64) string {
	if known, ok := p.known[id]; ok {
		return known.Kind
	}
	if name, ok := p.callers[id]; ok {
		return name
	}
	if len(p.callers) > maxPeople {
		p.callers = map[uint64]string{}
	}
	name := ""
	if address, ok := p.target.ProcessByPID(id); ok {
		head := make([]byte, bpf.HeadSize)
		if p.target.Memory.Read(head, address) == nil {
			if made, err := p.target.Identify(address, head, "", beam.Copied{}); err == nil {
				name = made.Kind
			}
		}
	}
	p.callers[id] = name
	return name
}

// onBehalfOf names the kind of the process that sent a call.
func (p *people) onBehalfOf(from uint64) string {
	switch {
	case from == 0:
		return ""
	case from&maskPID == tagPID:
		return p.kind(from)
	}
	return "process of another node"
}
