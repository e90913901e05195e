package attribution_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/collector/sampler"
	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/attribution"
	traffic "github.com/beamprof/beamprof/profiles/distribution"
	"github.com/beamprof/beamprof/testbed"
)

const (
	confusionFrequency = 499
	confusionSeconds   = 20
)

// BenchmarkConfusion compares what is attributed with what is true, on the
// testbed: each load alone and three mixes, while the exact time per process
// and request is taken. It prints one line per node and workload:
//
//	go test ./profiles/attribution -run '^$' -bench Confusion -benchtime 1x -timeout 30m
func BenchmarkConfusion(b *testing.B) {
	cluster := startCluster(b)
	for _, name := range []string{"ae", "repair", "churn", "publish", "mixed1", "mixed2", "mixed3"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				measured := [2]attributed{}
				result, err := cluster.Run(b.Context(), testbed.Scenario{
					Name: name, Seconds: confusionSeconds, Truth: true,
					Observe: func(ctx context.Context) error { return observe(ctx, cluster, &measured) },
				})
				if err != nil {
					b.Fatal(err)
				}
				for i, node := range result.Nodes {
					printConfusion(name, i+1, &measured[i], node.Truth)
				}
			}
		})
	}
}

// BenchmarkAblation compares the mixes with what each load costs alone, above
// the idle system, without any tracing. What is compared did not run at the same
// time, on a machine that may be shared: the means of several rounds tell more.
//
//	go test ./profiles/attribution -run '^$' -bench Ablation -benchtime 3x -timeout 60m
func BenchmarkAblation(b *testing.B) {
	cluster := startCluster(b)
	for _, name := range []string{"mixed1", "mixed2", "mixed3"} {
		b.Run(name, func(b *testing.B) {
			var rounds [2][]ablated // by node
			for b.Loop() {
				measured := [2]attributed{}
				_, err := cluster.Run(b.Context(), testbed.Scenario{
					Name: name, Seconds: confusionSeconds,
					Observe: func(ctx context.Context) error { return observe(ctx, cluster, &measured) },
				})
				if err != nil {
					b.Fatal(err)
				}
				truth, err := cluster.Ablation(b.Context(), testbed.Scenario{Name: name, Seconds: confusionSeconds})
				if err != nil {
					b.Fatal(err)
				}
				for i := range rounds {
					node := &truth.Nodes[i]
					fmt.Printf("\n%s, node %d: idle %.2f cores, with all loads %.2f; work of all loads %.2f cores, of each alone in sum %.2f\n",
						name, i+1, node.IdleCores, node.MixCores, node.MixWorkCores, node.SumWorkCores)
					round := compareAblation(&measured[i], truth, i)
					printAblation(round)
					rounds[i] = append(rounds[i], round...)
				}
			}
			for i, all := range rounds {
				fmt.Printf("\n%s, node %d: means of %d rounds\n", name, i+1, b.N)
				printAblation(means(all))
			}
		})
	}
}

// busyWait is the +sbwt of the nodes; empty is the VM's default.
var busyWait = os.Getenv("BEAMPROF_SBWT")

func startCluster(b *testing.B) *testbed.Cluster {
	testsupport.RequireBPF(b)
	testsupport.RequireErlang(b)
	cluster, err := testbed.Start(b.Context(), testbed.Options{BusyWait: busyWait})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			b.Error(err)
		}
	})
	return cluster
}

// attributed is a node's sampled nanoseconds by workload, and then by basis.
type attributed struct {
	workloads map[string]map[string]int64
	stats     sampler.Stats
}

// observe samples both nodes until the context ends.
func observe(ctx context.Context, cluster *testbed.Cluster, into *[2]attributed) error {
	var wait sync.WaitGroup
	errs := make([]error, len(cluster.Nodes))
	for i, node := range cluster.Nodes {
		wait.Go(func() { into[i], errs[i] = observeNode(ctx, node.PID) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func observeNode(ctx context.Context, pid int) (a attributed, err error) {
	target, err := beam.Attach(pid)
	if err != nil {
		return a, err
	}
	defer target.Close()
	session, err := sampler.Open(target, sampler.Options{Frequency: confusionFrequency})
	if err != nil {
		return a, err
	}
	defer session.Close()
	threads := map[string]map[string]map[string]int64{}
	rules := attribution.Choose(target.Code.Modules())
	attributor := attribution.New(rules, 1_000_000_000/confusionFrequency,
		func(s *collector.Sample, p attribution.Part) {
			if s.Process != nil && strings.HasPrefix(s.Process.Kind, "testbed_") {
				return // the truth's own work
			}
			workloads := threads[s.Thread.Label()]
			if workloads == nil {
				workloads = map[string]map[string]int64{}
				threads[s.Thread.Label()] = workloads
			}
			if workloads[p.Workload] == nil {
				workloads[p.Workload] = map[string]int64{}
			}
			workloads[p.Workload][p.Basis] += p.Nanoseconds
		})
	attributor.AwaitMessages()
	var messages sync.WaitGroup
	var costs map[string]map[string]float64
	var failed error
	messages.Go(func() { costs, failed = messageCosts(ctx, target, rules) })
	err = session.Run(ctx, attributor.Add)
	messages.Wait()
	for peer, by := range costs {
		for workload, cost := range by {
			attributor.CountMessages(peer, workload, cost)
		}
	}
	attributor.Close()
	a.stats = session.Stats()
	a.weigh(threads)
	return a, errors.Join(err, failed)
}

// messageCosts looks at the messages between the nodes, as record does.
func messageCosts(ctx context.Context, target *beam.Target, rules *attribution.Rules) (map[string]map[string]float64, error) {
	session, err := distribution.Open(target, distribution.Options{Detail: distribution.Sampled})
	if err != nil {
		return nil, err
	}
	defer session.Close()
	builder := traffic.NewBuilder(rules)
	err = session.Run(ctx, builder.Add)
	builder.Close()
	return builder.Costs(), errors.Join(err, session.Stats().NoMessages)
}

// weigh adds up the times of all threads, each with its weight.
func (a *attributed) weigh(threads map[string]map[string]map[string]int64) {
	a.workloads = map[string]map[string]int64{}
	weights := a.stats.Weights()
	for label, workloads := range threads {
		weight, ok := weights[label]
		if !ok {
			weight = 1
		}
		for workload, bases := range workloads {
			if a.workloads[workload] == nil {
				a.workloads[workload] = map[string]int64{}
			}
			for basis, time := range bases {
				a.workloads[workload][basis] += int64(weight * float64(time))
			}
		}
	}
}

// share returns a workload's part of what is not the VM's own overhead.
func (a *attributed) share(workload string) float64 {
	all := a.time()
	if all == 0 {
		return 0
	}
	return float64(sum(a.workloads[workload])) / float64(all)
}

func (a *attributed) time() (time int64) {
	for workload, bases := range a.workloads {
		if workload != attribution.VM {
			time += sum(bases)
		}
	}
	return time
}

func sum(times map[string]int64) (total int64) {
	for _, time := range times {
		total += time
	}
	return total
}

var compared = []string{"ae_exchange", "client_churn", "replication", "message_routing", "housekeeping", attribution.Unattributed}

// printConfusion prints shares of all but the VM's overhead, as the truth has
// them without what the testbed does for itself.
func printConfusion(scenario string, node int, a *attributed, truth *testbed.Truth) {
	var seconds float64
	times := map[string]float64{}
	for _, w := range truth.Workloads {
		if slices.Contains(compared, w.Workload) {
			seconds += w.Seconds
			times[w.Workload] = w.Seconds
		}
	}
	vm := sum(a.workloads[attribution.VM])
	fmt.Printf("\n%s, node %d: sampled %.2f s (kernel: %.2f s), vm %.0f%%; without it %.2f s, true %.2f s\n", scenario, node,
		a.stats.SampledSeconds(), a.stats.ProcessSeconds, 100*float64(vm)/float64(max(1, vm+a.time())), float64(a.time())/1e9, seconds)
	for _, workload := range compared {
		is, was := a.share(workload), times[workload]/max(seconds, 1e-9)
		if is < 0.0005 && was < 0.0005 {
			continue
		}
		fmt.Printf("  %-16s %6.1f%%  true %6.1f%%  %+5.1f  %s\n", workload, 100*is, 100*was, 100*(is-was), bases(a.workloads[workload]))
	}
}

func bases(times map[string]int64) string {
	var parts []string
	for _, basis := range []string{"stack", "request", "caller", "parent", "process", "apportioned", "none"} {
		if times[basis] > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f%%", basis, 100*float64(times[basis])/float64(sum(times))))
		}
	}
	return strings.Join(parts, ", ")
}

// ablated is a load's part of the work that all loads cause, as it is measured with
// all of them, and as it costs alone. The VM's own is in neither.
type ablated struct {
	load            string
	measured, alone float64
}

func compareAblation(measured *attributed, truth *testbed.Ablation, node int) (loads []ablated) {
	var all float64
	shares := map[string]float64{}
	for _, load := range truth.Loads {
		for _, workload := range load.Workloads {
			shares[load.Name] += measured.share(workload)
		}
		all += shares[load.Name]
	}
	for _, load := range truth.Nodes[node].Loads {
		loads = append(loads, ablated{load.Name, shares[load.Name], load.WorkShare})
	}
	for i := range loads {
		loads[i].measured /= max(all, 1e-9)
	}
	return loads
}

// means returns the means of each load's rounds.
func means(rounds []ablated) (loads []ablated) {
	count := map[string]float64{}
	for _, r := range rounds {
		count[r.load]++
	}
	for _, r := range rounds {
		i := slices.IndexFunc(loads, func(l ablated) bool { return l.load == r.load })
		if i < 0 {
			i = len(loads)
			loads = append(loads, ablated{load: r.load})
		}
		loads[i].measured += r.measured / count[r.load]
		loads[i].alone += r.alone / count[r.load]
	}
	return loads
}

func printAblation(loads []ablated) {
	for _, l := range loads {
		fmt.Printf("  %-10s %6.1f%%  alone it costs %6.1f%%  %+5.1f\n", l.load, 100*l.measured, 100*l.alone, 100*(l.measured-l.alone))
	}
}
