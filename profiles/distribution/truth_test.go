package distribution

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/collector/distribution"
	"github.com/beamprof/beamprof/internal/testsupport"
	"github.com/beamprof/beamprof/profiles/attribution"
	"github.com/beamprof/beamprof/testbed"
)

// BenchmarkTruth compares what is sent for each workload with what the testbed
// knows that it sends, in bytes of all that was sent for a workload of the
// application. It prints one line per scenario and node:
//
//	go test ./profiles/distribution -run '^$' -bench Truth -benchtime 1x -timeout 30m
func BenchmarkTruth(b *testing.B) {
	testsupport.RequireBPF(b)
	testsupport.RequireErlang(b)
	cluster, err := testbed.Start(b.Context(), testbed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			b.Error(err)
		}
	})
	for _, name := range []string{"ae", "churn", "mixed1"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var measured [2]traffic
				result, err := cluster.Run(b.Context(), testbed.Scenario{
					Name: name, Seconds: 20, Truth: true,
					Observe: func(ctx context.Context) error {
						var wait sync.WaitGroup
						var errs [2]error
						for i, node := range cluster.Nodes {
							wait.Go(func() { measured[i], errs[i] = observe(ctx, node.PID) })
						}
						wait.Wait()
						return firstOf(errs[:])
					},
				})
				if err != nil {
					b.Fatal(err)
				}
				for i, node := range result.Nodes {
					print(name, i+1, measured[i], node.Truth)
				}
			}
		})
	}
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// traffic is what a node sent.
type traffic struct {
	builder *Builder
	stats   distribution.Stats
}

func observe(ctx context.Context, pid int) (t traffic, err error) {
	target, err := beam.Attach(pid)
	if err != nil {
		return t, err
	}
	defer target.Close()
	session, err := distribution.Open(target, distribution.Options{Detail: distribution.Sampled})
	if err != nil {
		return t, err
	}
	defer session.Close()
	t.builder = NewBuilder(attribution.Choose(target.Code.Modules()))
	err = session.Run(ctx, t.builder.Add)
	t.builder.Close()
	t.stats = session.Stats()
	return t, err
}

// applications are the workloads that are compared.
var applications = []string{"ae_exchange", "client_churn", "replication", "message_routing", "housekeeping"}

func print(scenario string, node int, t traffic, truth *testbed.Truth) {
	sent := map[string]float64{}
	for r, total := range t.builder.rows {
		if !r.received {
			sent[r.workload] += total.bytes
		}
	}
	marked := map[string]float64{}
	for _, w := range truth.Sent.Workloads {
		marked[w.Workload] += float64(w.Bytes)
	}
	var all, allMarked float64
	for _, w := range applications {
		all += sent[w]
		allMarked += marked[w]
	}
	fmt.Printf("%-8s %d", scenario, node)
	for _, w := range applications {
		fmt.Printf("  %s %.1f/%.1f", w, 100*sent[w]/max(all, 1), 100*marked[w]/max(allMarked, 1))
	}
	fmt.Printf("  (%.0f bytes, true %.0f; 1 in %d; other %.0f and %.0f)\n", all, allMarked, t.stats.Every, sent[attribution.VM], sent[attribution.Unattributed])
}
