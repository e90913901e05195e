package sampler

import (
	"encoding/binary"
	"strings"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/ordered"
)

// peers tells which other node work is for: that of the ports and processes that
// the connections to other nodes are made of, and that on messages to them.
type peers struct {
	target    *beam.Target
	looked    uint64            // when the VM's connections were looked at last
	entries   map[uint64]string // by address of dist_entry_
	ports     map[string]string // by id
	processes map[uint64]string // by pid term
	seen      map[beam.Connection]bool
}

// peerInterval is how old a look may be, in nanoseconds, for what was sampled
// later: one look is enough for all that is handled at once.
const peerInterval = 250_000_000

// maxPeers bounds the connections that are remembered; beyond it they are
// forgotten, but for those there are.
const maxPeers = 1 << 12

func newPeers(target *beam.Target) *peers {
	p := &peers{target: target}
	p.forget()
	return p
}

func (p *peers) forget() {
	p.entries, p.ports, p.processes = map[uint64]string{}, map[string]string{}, map[uint64]string{}
	p.seen = map[beam.Connection]bool{}
}

// trafficFunctions begin the names of the emulator's exported functions that
// work on messages between nodes (dist.c, external.c, OTP 23 to 28).
var trafficFunctions = []string{
	"erts_dsig_send", "erts_encode_dist", "erts_encode_ext_dist", "erts_prepare_dist", "erts_make_dist", "erts_decode_dist",
	"erts_net_message", "erts_dist_", "erts_finalize_atom_cache_map", "dist_ctrl_",
}

func isTraffic(function string) bool {
	for _, prefix := range trafficFunctions {
		if strings.HasPrefix(function, prefix) {
			return true
		}
	}
	return false
}

// of returns the node that a sample's work is for, or the empty string. traffic
// says that the C code works on messages. Which node they are for stands on the
// C stack while they are sent, and in what it points to while they are decoded.
func (p *peers) of(r *record, s *collector.Sample, traffic bool) string {
	if p.looked == 0 || r.Time >= p.looked+peerInterval {
		p.look()
	}
	if s.Port != nil {
		if node, ok := p.ports[s.Port.ID]; ok {
			return node
		}
	}
	if len(r.head) > 0 {
		if node, ok := p.processes[r.headWord(p.target.Layout.Process.ID)]; ok {
			return node
		}
	}
	if !traffic {
		return ""
	}
	if only := p.only(); only != "" {
		return only
	}
	for _, words := range [][]byte{r.cStack, r.decoding} {
		for ; len(words) >= 8; words = words[8:] {
			if node, ok := p.entries[binary.LittleEndian.Uint64(words)]; ok {
				return node
			}
		}
	}
	return ""
}

// decoding returns where the code that decodes messages of other nodes is in
// memory, zeros if the VM is no node or has no such function. Between the two
// functions are others that decode (external.c, OTP 23 to 28).
func decoding(target *beam.Target) (at, length uint64) {
	first, ok := target.Symbol("erts_decode_dist_ext_size")
	last, also := target.Symbol("erts_decode_dist_ext")
	const lastSize = 256 // bytes at most
	if !ok || !also || target.NodeName() == "" || last < first || last-first > 1<<13 {
		return 0, 0
	}
	return first, last - first + lastSize
}

// only returns the node that all connections are to, if there is one.
func (p *peers) only() (only string) {
	for _, node := range p.entries {
		if only != "" && node != only {
			return ""
		}
		only = node
	}
	return only
}

// look takes in the connections there are now.
func (p *peers) look() {
	p.looked = ordered.Now()
	if len(p.seen) >= maxPeers {
		p.forget()
	}
	// A list that changed while it was read is whole the next time.
	list, _ := p.target.Connections()
	for _, c := range list {
		p.entries[c.Entry] = c.Node
		c.Sent, c.Received = 0, 0
		if p.seen[c] {
			continue
		}
		p.seen[c] = true
		if id, ok := p.target.FormatPort(c.Controller); ok {
			p.ports[id] = c.Node
			continue
		}
		p.processes[c.Controller] = c.Node
		if socket, err := p.target.ControllerSocket(c); err == nil {
			p.processes[socket.Connected] = c.Node
		}
	}
}
