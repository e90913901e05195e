package summary

import (
	"cmp"
	"slices"

	"github.com/beamprof/beamprof/profiles/attribution"
)

// condenseWorkloads lists the workloads, the busiest first; the VM's own
// overhead and what is not attributed come last. It is nil if nothing was
// attributed: there were no rules.
func (t *tables) condenseWorkloads() []Workload {
	byName := map[string]*Workload{}
	times := map[string]uint64{}
	for key, time := range t.workloads {
		if key.workload == "" {
			continue
		}
		w := byName[key.workload]
		if w == nil {
			w = &Workload{Name: key.workload, Basis: map[string]float64{}}
			byName[key.workload] = w
		}
		w.Basis[key.basis] = t.seconds(time)
		times[key.workload] += time
	}
	attributed := t.total - times[attribution.VM]
	var workloads []Workload
	for name, w := range byName {
		w.Seconds, w.Share = t.seconds(times[name]), t.share(times[name])
		if name != attribution.VM && attributed > 0 {
			w.WithoutVM = round(float64(times[name]) / float64(attributed))
		}
		workloads = append(workloads, *w)
	}
	slices.SortFunc(workloads, func(x, y Workload) int {
		return cmp.Or(cmp.Compare(rank(x.Name), rank(y.Name)), cmp.Compare(times[y.Name], times[x.Name]), cmp.Compare(x.Name, y.Name))
	})
	return workloads
}

// rank puts what is nobody's behind what is somebody's.
func rank(workload string) int {
	switch workload {
	case attribution.VM:
		return 1
	case attribution.Unattributed:
		return 2
	}
	return 0
}

// workloadsOfProcesses returns each process's seconds by workload.
func (t *tables) workloadsOfProcesses() map[processKey]map[string]float64 {
	times := map[processKey]map[string]uint64{}
	for key, time := range t.workloadsOf {
		if key.workload == "" {
			continue
		}
		process := processKey{key.process.Name, key.process.Kind, key.process.PID}
		if times[process] == nil {
			times[process] = map[string]uint64{}
		}
		times[process][key.workload] += time
	}
	seconds := make(map[processKey]map[string]float64, len(times))
	for process, workloads := range times {
		seconds[process] = make(map[string]float64, len(workloads))
		for workload, time := range workloads {
			seconds[process][workload] = t.seconds(time)
		}
	}
	return seconds
}
