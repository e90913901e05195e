package sampler

import (
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

// get returns a thread; one that was never seen is looked up in /proc.
func (t *threads) get(tid int) *collector.Thread {
	if known, ok := t.known[tid]; ok {
		return known
	}
	if len(t.known) > maxFrames {
		t.known = map[int]*collector.Thread{}
	}
	name := "unknown" // it ended before it could be asked for
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/comm", t.target.PID, tid)); err == nil {
		name = strings.TrimSpace(string(comm))
	}
	made := &collector.Thread{TID: tid, Name: name}
	made.Kind, made.Number = t.target.ThreadKind(tid, name)
	t.known[tid] = made
	return made
}

// label returns a thread's value of the label `thread`.
func (t *threads) label(tid int) string { return t.get(tid).Label() }

// forgetNames drops the threads that are not the VM's own: they get their names
// after they started, and their numbers are used again.
func (t *threads) forgetNames() {
	for tid, thread := range t.known {
		if thread.Kind == collector.ThreadNative {
			delete(t.known, tid)
		}
	}
}
