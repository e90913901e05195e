package attribution

import (
	"strings"

	"github.com/beamprof/beamprof/collector"
)

// maxWorkloads bounds the workloads of a recording; applications that are one
// too many are taken together.
const (
	maxWorkloads      = 64
	otherApplications = "other_applications"
)

// application names the application a process belongs to by what its module's
// name begins with, as modules of one application share a prefix by
// convention: vmq for vmq_queue, my_app for MyApp.Worker. It is empty if the
// process has no name.
func application(p *collector.Process) string {
	if p == nil {
		return ""
	}
	name := p.InitialCall
	if name == "" || strings.HasPrefix(name, "erlang:") || strings.HasPrefix(name, "gen_") || strings.HasPrefix(name, "proc_lib:") {
		name = p.Kind
	}
	if first, size := name, strings.IndexByte(name, '.'); size > 0 && first[0] >= 'A' && first[0] <= 'Z' {
		return snake(name[:size])
	}
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(strings.TrimLeft(name, "_"), "_")
	return snake(name)
}

// snake writes a name as workloads are named.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case r >= 'A' && r <= 'Z':
			if i > 0 && b.Len() > 0 {
				b.WriteByte('_')
			}
			b.WriteRune(r - 'A' + 'a')
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_':
			b.WriteRune(r)
		}
	}
	text := b.String()
	return text[:min(len(text), 40)]
}

// number returns the number of a workload; one that is new gets the next.
func (a *Attributor) number(name string) int {
	if n, ok := a.numbers[name]; ok {
		return n
	}
	if len(a.names) >= maxWorkloads && name != otherApplications {
		return a.number(otherApplications)
	}
	a.names = append(a.names, name)
	a.numbers[name] = len(a.names) - 1
	return len(a.names) - 1
}
