package pprof

import (
	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// labelKey is all that a sample's labels are made of. Processes are interned
// by their producer, so a pointer stands for name, kind and pid.
type labelKey struct {
	state      collector.State
	thread     collector.ThreadKind
	number     int
	threadName string // of native threads
	process    *collector.Process
	request    string
	onBehalfOf string
	peer       string
	callers    string // the chain of who asked, if it is shown as a label
	workload   string
	basis      string
}

func (b *Builder) labelKey(s *collector.Sample, part attribution.Part) labelKey {
	key := labelKey{
		state: s.State, process: s.Process, request: s.Request, onBehalfOf: s.OnBehalfOf, peer: s.Peer,
		callers: b.chain(s), workload: part.Workload, basis: part.Basis,
	}
	if s.Thread != nil {
		key.thread = s.Thread.Kind
		key.number = s.Thread.Number
		if s.Thread.Kind == collector.ThreadNative {
			key.threadName = s.Thread.Name
		}
	}
	return key
}

// bounded returns the part of the key that can take only so many values, as
// the target has only so many threads.
func (k labelKey) bounded() labelKey {
	return labelKey{state: k.state, thread: k.thread, number: k.number, threadName: k.threadName, workload: k.workload, basis: k.basis}
}

func (k labelKey) threadLabel() string {
	if k.thread == collector.ThreadNative {
		return k.threadName
	}
	return k.thread.String()
}

// strings returns the string labels; labels without a value are absent.
func (k labelKey) strings() map[string][]string {
	labels := make(map[string][]string, 8)
	set := func(name, value string) {
		if value != "" {
			labels[name] = []string{text.Clean(value)}
		}
	}
	set("state", k.state.String())
	set("thread", k.threadLabel())
	if k.process != nil {
		set("process", k.process.Name)
		set("process_kind", k.process.Kind)
		set("pid", k.process.PID)
	}
	set("request", k.request)
	set("on_behalf_of", k.onBehalfOf)
	set("peer", k.peer)
	set("callers", k.callers)
	set("workload", k.workload)
	set("basis", k.basis)
	return labels
}

// numbers returns the numeric labels and their units. Scheduler numbers start
// at 1: pprof cannot tell a label of value 0 from none.
func (k labelKey) numbers() (values map[string][]int64, units map[string][]string) {
	switch k.thread {
	case collector.ThreadScheduler, collector.ThreadDirtyCPU, collector.ThreadDirtyIO:
		if k.number > 0 {
			return map[string][]int64{"scheduler": {int64(k.number)}}, map[string][]string{"scheduler": {"count"}}
		}
	}
	return nil, nil
}

// labelTable numbers sets of labels in the order they are first seen.
type labelTable struct {
	ids  map[labelKey]uint32
	keys []labelKey
}

func newLabelTable() labelTable {
	return labelTable{ids: make(map[labelKey]uint32)}
}

func (t *labelTable) find(key labelKey) (uint32, bool) {
	id, ok := t.ids[key]
	return id, ok
}

func (t *labelTable) intern(key labelKey) uint32 {
	id, ok := t.ids[key]
	if !ok {
		id = uint32(len(t.keys))
		t.ids[key] = id
		t.keys = append(t.keys, key)
	}
	return id
}
