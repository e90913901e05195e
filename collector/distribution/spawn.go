package distribution

import (
	"strings"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/beamprof/beamprof/collector"
)

// spawns remembers which processes run a fun that another node spawned here. The
// VM says of them only that they were spawned with a fun, and when the fun ends
// in a call their stack does not tell whose it was, either; the request to spawn
// it did, and the reply says which process came of it.
type spawns struct {
	requests *lru.Cache[question, string]           // whose fun, by the request
	by       *lru.Cache[uint64, *collector.Process] // by pid term
	kinds    *lru.Cache[string, *collector.Process] // one for all with the same fun
}

// maxSpawns bounds what is remembered of each kind.
const maxSpawns = 1 << 14

// initialFun is what the VM notes as the initial call of a process that was
// spawned with a fun.
const initialFun = "erlang:apply/2"

func newSpawns() spawns {
	return spawns{newCache[question, string](maxSpawns), newCache[uint64, *collector.Process](maxSpawns), newCache[string, *collector.Process](maxSpawns)}
}

// request notes what another node asks to be spawned, if it is a fun.
func (s *spawns) request(q question, what string) {
	if q.ref != (ref{}) && strings.HasSuffix(what, ":"+someFun) {
		s.requests.Add(q, what)
	}
}

// reply notes which process was spawned.
func (s *spawns) reply(q question, pid uint64) {
	what, ok := s.requests.Get(q)
	if !ok || pid == 0 {
		return
	}
	s.requests.Remove(q)
	kind, ok := s.kinds.Get(what)
	if !ok {
		kind = &collector.Process{Name: what, Kind: what, InitialCall: initialFun}
		s.kinds.Add(what, kind)
	}
	s.by.Add(pid, kind)
}

// name returns a process with a better name, if there is one: p itself if its
// own says more than whose fun it runs.
func (s *spawns) name(pid uint64, p *collector.Process) *collector.Process {
	known, ok := s.by.Get(pid)
	if !ok || p != nil && (p.RegisteredName != "" || p.InitialCall != "" && p.InitialCall != initialFun) {
		return p
	}
	if p != nil && strings.HasPrefix(p.Name, strings.TrimSuffix(known.Name, someFun)) {
		return p
	}
	return known
}
