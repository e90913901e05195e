package summary

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/profiles/text"
)

// maxListed bounds the lists of a summary; the busiest are listed.
const maxListed = 100

// Info is what a summary says that is not in the samples. Of Window and CPU the
// Builder fills in the frequency and all that can be counted from samples.
type Info struct {
	Target   Target
	Rules    string // name of the rule set that attributed the samples
	Causes   []attribution.Cause
	Window   Window
	CPU      CPU
	Warnings []string
	Weights  map[string]float64 // what CPU time is multiplied with, by label `thread`; 1 for those it does not have
}

// Summary returns the numbers of what was counted so far.
func (b *Builder) Summary(info Info) *Summary {
	t := b.weighted(info.Weights)
	s := &Summary{
		Schema:   Schema,
		Target:   info.Target,
		Window:   info.Window,
		CPU:      info.CPU,
		Warnings: slices.Clone(info.Warnings),
	}
	s.Target.Node = text.Clean(s.Target.Node)
	s.Target.OTPRelease = text.Clean(s.Target.OTPRelease)
	s.Target.ERTS = text.Clean(s.Target.ERTS)
	s.Window.Frequency = b.frequency
	s.Window.Duration = round(s.Window.Duration)
	s.CPU.Samples = b.samples
	s.CPU.Seconds = t.seconds(t.total)
	s.CPU.SampledSeconds = round(float64(b.samples) / float64(b.frequency))
	s.CPU.WithoutProcessSeconds = t.seconds(t.withoutProcess)
	s.CPU.ProcessSeconds = round(s.CPU.ProcessSeconds)

	s.Rules, s.Causes = info.Rules, info.Causes
	s.Workloads = t.condenseWorkloads()
	s.Unattributed = list(t.unattributed, func(key unattributedKey, n uint64) Unattributed {
		return Unattributed{text.Clean(key.name), key.reason, t.seconds(n), t.share(n)}
	}, func(u Unattributed) string { return u.Name + "\n" + u.Reason })
	if len(s.Unattributed) == 0 {
		s.Unattributed = nil
	}
	s.States = list(t.states, func(state collector.State, n uint64) Part {
		return Part{state.String(), t.seconds(n), t.share(n)}
	}, func(p Part) string { return p.Name })
	s.Threads = list(t.threads, func(name string, n uint64) Part {
		return Part{text.Clean(name), t.seconds(n), t.share(n)}
	}, func(p Part) string { return p.Name })
	s.Requests = list(t.requests, func(key requestKey, n uint64) Request {
		return Request{text.Clean(key.kind), text.Clean(key.request), text.Clean(key.onBehalfOf), t.seconds(n), t.share(n)}
	}, func(r Request) string { return r.Kind + "\n" + r.Request + "\n" + r.OnBehalfOf })
	s.Processes, s.ProcessKinds = t.condenseProcesses()
	s.ErlangFunctions = t.condenseFunctions(t.erlang, func(*collector.Frame) string { return "" })
	s.NativeFunctions = t.condenseFunctions(t.native, object)
	if len(t.moreKinds) > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("more than %d Erlang processes ran: the numbers of processes per kind are lower bounds", maxKeys))
	}
	return s
}

type processKey struct{ name, kind, pid string }

// condenseProcesses takes together what is known of one process under several
// pointers (its name may have changed), and then the processes of one kind.
func (t *tables) condenseProcesses() ([]Process, []ProcessKind) {
	single := make(map[processKey]uint64, len(t.processes))
	for p, n := range t.processes {
		single[processKey{p.Name, p.Kind, p.PID}] += n
	}
	pids := make(map[string]map[string]uint64) // kind → pid → samples
	kinds := make(map[string]uint64)
	for key, n := range single {
		if pids[key.kind] == nil {
			pids[key.kind] = make(map[string]uint64)
		}
		pids[key.kind][key.pid] += n
		kinds[key.kind] += n
	}
	for kind, n := range t.moreKinds {
		kinds[kind] += n
	}
	workloads := t.workloadsOfProcesses()
	processes := list(single, func(key processKey, n uint64) Process {
		return Process{
			Name: text.Clean(key.name), Kind: text.Clean(key.kind), PID: text.Clean(key.pid),
			Seconds: t.seconds(n), Share: t.share(n), Workloads: workloads[key],
		}
	}, func(p Process) string { return p.Name + "\n" + p.PID })
	return processes, list(kinds, func(kind string, n uint64) ProcessKind {
		return ProcessKind{Kind: text.Clean(kind), Processes: len(pids[kind]), Busiest: text.Clean(busiest(pids[kind])), Seconds: t.seconds(n), Share: t.share(n)}
	}, func(k ProcessKind) string { return k.Kind })
}

func busiest(pids map[string]uint64) string {
	var best string
	for pid, n := range pids {
		if n > pids[best] || n == pids[best] && pid < best {
			best = pid
		}
	}
	return best
}

type functionKey struct{ name, object string }

func (t *tables) condenseFunctions(frames map[*collector.Frame]uint64, object func(*collector.Frame) string) []Function {
	functions := make(map[functionKey]uint64)
	for frame, n := range frames {
		functions[functionKey{text.Clean(frame.Function), object(frame)}] += n
	}
	return list(functions, func(key functionKey, n uint64) Function {
		return Function{key.name, key.object, t.seconds(n), t.share(n)}
	}, func(f Function) string { return f.Name + "\n" + f.Object })
}

// list makes a table's busiest entries into a list, the busiest first and
// equally busy ones by name. It is never nil: the section was recorded.
func list[K comparable, V any](table map[K]uint64, entry func(K, uint64) V, name func(V) string) []V {
	type counted struct {
		samples uint64
		name    string
		value   V
	}
	all := make([]counted, 0, len(table))
	for key, n := range table {
		value := entry(key, n)
		all = append(all, counted{n, name(value), value})
	}
	slices.SortFunc(all, func(a, b counted) int {
		return cmp.Or(cmp.Compare(b.samples, a.samples), cmp.Compare(a.name, b.name))
	})
	values := make([]V, 0, min(len(all), maxListed))
	for _, c := range all[:min(len(all), maxListed)] {
		values = append(values, c.value)
	}
	return values
}

// seconds turns nanoseconds of CPU time into seconds.
func (t *tables) seconds(time uint64) float64 { return round(float64(time) / 1e9) }

func (t *tables) share(time uint64) float64 {
	if t.total == 0 {
		return 0
	}
	return round(float64(time) / float64(t.total))
}

// round keeps six decimals: more would be noise.
func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }
