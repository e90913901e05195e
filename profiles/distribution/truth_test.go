package distribution

import (
	"context"
	"fmt"
	"slices"
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

// print prints measured/true shares of the bytes and of the messages. The
// testbed counts what goes with a message, but no links and monitors.
func print(scenario string, node int, t traffic, truth *testbed.Truth) {
	sent, marked := map[string]sum{}, map[string]sum{}
	var all, allMarked sum
	for r, total := range t.builder.rows {
		if r.received || r.requestType == "" || !slices.Contains(applications, r.workload) {
			continue
		}
		counted := sum{total.messages, total.bytes}
		sent[r.workload] = sum{sent[r.workload].messages + counted.messages, sent[r.workload].bytes + counted.bytes}
		all = sum{all.messages + counted.messages, all.bytes + counted.bytes}
	}
	for _, w := range truth.Sent.Workloads {
		if !slices.Contains(applications, w.Workload) {
			continue
		}
		marked[w.Workload] = sum{float64(w.Messages), float64(w.Bytes)}
		allMarked = sum{allMarked.messages + float64(w.Messages), allMarked.bytes + float64(w.Bytes)}
	}
	fmt.Printf("%-7s %d  1 in %d; %.0f/%.0f messages, %.0f/%.0f bytes:", scenario, node, t.stats.Every, all.messages, allMarked.messages, all.bytes, allMarked.bytes)
	for _, w := range applications {
		fmt.Printf("  %s %.1f/%.1f %.1f/%.1f", w, 100*sent[w].bytes/all.bytes, 100*marked[w].bytes/allMarked.bytes,
			100*sent[w].messages/all.messages, 100*marked[w].messages/allMarked.messages)
	}
	fmt.Println()
}
