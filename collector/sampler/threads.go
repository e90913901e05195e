package sampler

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
)

// threads knows the target's threads by their number in the host's pid namespace.
type threads struct {
	target *beam.Target
	known  map[int]*collector.Thread
	jit    map[int]bool // normal schedulers: those that execute JIT code
}

func newThreads(target *beam.Target) *threads {
	t := &threads{target: target, known: map[int]*collector.Thread{}, jit: map[int]bool{}}
	for _, s := range target.Schedulers {
		t.jit[s.TID] = s.Kind == collector.ThreadScheduler
	}
	return t
}

func (t *threads) isJIT(tid int) bool { return t.jit[tid] }

// get returns a thread. comm is its name, up to a NUL. If that is empty the thread has
// the name it had before, or that in /proc.
func (t *threads) get(tid int, comm []byte) *collector.Thread {
	if end := bytes.IndexByte(comm, 0); end >= 0 {
		comm = comm[:end]
	}
	// Threads get their names after they started, and their numbers are used again.
	if known, ok := t.known[tid]; ok && (len(comm) == 0 || known.Name == string(comm)) {
		return known
	}
	if len(t.known) > maxFrames {
		t.known = map[int]*collector.Thread{}
	}
	name := string(comm)
	if name == "" {
		name = t.name(tid)
	}
	made := t.named(tid, name)
	t.known[tid] = made
	return made
}

// named returns a thread with a name.
func (t *threads) named(tid int, name string) *collector.Thread {
	made := &collector.Thread{TID: tid, Name: name}
	made.Kind, made.Number = t.target.ThreadKind(tid, name)
	return made
}

// name returns the name that a thread has in /proc.
func (t *threads) name(tid int) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", t.target.PID, tid))
	if err != nil {
		return "unknown" // it ended before it could be asked for
	}
	return strings.TrimSuffix(string(comm), "\n")
}

// label returns a thread's value of the label `thread`.
func (t *threads) label(tid int) string {
	if known, ok := t.known[tid]; ok {
		return known.Label()
	}
	return t.named(tid, t.name(tid)).Label()
}
