package attribution

import (
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector"
)

const period = 10_101_010 // nanoseconds

// who makes samples of an invented VM: the same names give the same processes
// and frames, as the collector's do.
type who struct {
	processes map[string]*collector.Process
	frames    map[string]*collector.Frame
	clock     uint64
}

func newWho() *who {
	return &who{processes: map[string]*collector.Process{}, frames: map[string]*collector.Frame{}, clock: 1}
}

// process makes a process of a kind; "kind < parent" has a parent.
func (w *who) process(text string) *collector.Process {
	if p, ok := w.processes[text]; ok {
		return p
	}
	kind, parent, _ := strings.Cut(text, " < ")
	p := &collector.Process{PID: "<0.1.0>", Name: kind, Kind: kind, Parent: parent}
	if strings.Contains(kind, ":") {
		p.InitialCall = kind
	}
	w.processes[text] = p
	return p
}

// stack makes a stack of Erlang frames; names that begin with # are C functions.
func (w *who) stack(names ...string) []*collector.Frame {
	var frames []*collector.Frame
	for _, name := range names {
		f, ok := w.frames[name]
		if !ok {
			f = &collector.Frame{Kind: collector.FrameErlang, Function: name, Resolved: true}
			if native, ok := strings.CutPrefix(name, "#"); ok {
				f.Kind, f.Function = collector.FrameNative, native
			}
			w.frames[name] = f
		}
		frames = append(frames, f)
	}
	return frames
}

var scheduler = &collector.Thread{TID: 1, Kind: collector.ThreadScheduler, Number: 1, Name: "1_scheduler"}

// sample makes a sample of a process on a scheduler. request is "type tag".
func (w *who) sample(process, request string, functions ...string) *collector.Sample {
	w.clock += period
	s := &collector.Sample{Time: w.clock, Thread: scheduler, State: collector.StateEmulator, Stack: w.stack(functions...)}
	if process != "" {
		s.Process = w.process(process)
	}
	s.RequestType, s.Request, _ = strings.Cut(request, " ")
	return s
}

// asked adds those who wait for a sample's process, each "process | type tag | functions".
func (w *who) asked(s *collector.Sample, chain ...string) *collector.Sample {
	for _, link := range chain {
		parts := strings.Split(link, "|")
		c := collector.Caller{Process: w.process(strings.TrimSpace(parts[0]))}
		if len(parts) > 1 {
			c.RequestType, c.Request, _ = strings.Cut(strings.TrimSpace(parts[1]), " ")
		}
		if len(parts) > 2 {
			c.Stack = w.stack(strings.Fields(parts[2])...)
		}
		s.Callers = append(s.Callers, c)
	}
	if len(s.Callers) > 0 {
		s.OnBehalfOf = s.Callers[0].Process.Kind
	}
	return s
}

func (w *who) native(thread string, functions ...string) *collector.Sample {
	s := w.sample("", "", functions...)
	s.Thread, s.State = &collector.Thread{TID: 9, Name: thread}, collector.StateNative
	return s
}

func builtin(t testing.TB, name string) *Rules {
	t.Helper()
	rules, ok := Builtin(name)
	if !ok {
		t.Fatalf("no rules %s", name)
	}
	return rules
}

func parse(t testing.TB, text string) *Rules {
	t.Helper()
	rules, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// attribute returns the parts of each sample.
func attribute(rules *Rules, samples ...*collector.Sample) map[*collector.Sample][]Part {
	parts := map[*collector.Sample][]Part{}
	original := map[uint64]*collector.Sample{}
	for _, s := range samples {
		original[s.Time] = s
	}
	a := New(rules, period, func(s *collector.Sample, p Part) {
		parts[original[s.Time]] = append(parts[original[s.Time]], p)
	})
	for _, s := range samples {
		a.Add(s)
	}
	a.Close()
	return parts
}
