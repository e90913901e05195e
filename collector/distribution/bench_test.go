package distribution

import (
	"context"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// BenchmarkMessages measures what a message costs the VM that sends or receives
// it: all of it as the VM sees it, and of this the probe's program alone. The
// rest of the difference to `off` is the price of a uprobe.
func BenchmarkMessages(b *testing.B) {
	testsupport.RequireBPF(b)
	p := startTraffic(b, testsupport.Options{})
	p.connect(b)
	for _, mode := range []struct {
		name  string
		every uint32 // 0: no probes
	}{{"off", 0}, {"one in 1000000", 1_000_000}, {"full", 1}} {
		for direction, node := range []*testsupport.VM{p.a, p.b} {
			name := fmt.Sprintf("%s/%s", mode.name, []string{"sent", "received"}[direction])
			b.Run(name, func(b *testing.B) {
				var s *Session
				if mode.every > 0 {
					statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
					if err != nil {
						b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
					}
					defer statistics.Close()
					if s, err = Open(p.target, Options{Detail: Full}); err != nil {
						b.Fatal(err)
					}
					defer s.Close()
					if err := s.probes.programs.Copy(mode.every); err != nil {
						b.Fatal(err)
					}
					ctx, stop := context.WithCancel(context.Background())
					done := make(chan error, 1)
					go func() { done <- s.Run(ctx, func(*Message) {}) }()
					defer func() {
						stop()
						<-done
					}()
				}
				other := []*testsupport.VM{p.b, p.a}[direction]
				b.ResetTimer()
				spent := node.EvalInt(b, fmt.Sprintf("element(1, timer:tc(fun() -> traffic:sends({traffic_server, '%s'}, %d, {'$gen_cast', {write, key, 1}}), traffic:wait('%s') end))", other.Node, b.N, other.Node))
				b.ReportMetric(float64(spent)*1000/float64(b.N), "vm-ns/message")
				if s == nil {
					return
				}
				stats, err := []*ebpf.Program{s.probes.programs.Sent, s.probes.programs.Received}[direction].Stats()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(stats.Runtime.Nanoseconds())/float64(max(stats.RunCount, 1)), "probe-ns/message")
				b.ReportMetric(float64(s.Stats().Lost)/float64(b.N), "lost/message")
			})
		}
	}
}
