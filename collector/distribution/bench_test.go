package distribution

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// emptyProbes puts probes that do nothing where the real ones are.
func emptyProbes(b *testing.B, p *probes) (remove func()) {
	b.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.Kprobe, License: "GPL", AttachType: attachType(p),
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		b.Fatal(err)
	}
	empty := *p
	programs := *p.programs
	programs.Sent, programs.Received = program, program
	empty.programs, empty.links = &programs, []link.Link(nil)
	if err := empty.attach(); err != nil {
		b.Fatal(err)
	}
	return func() {
		empty.detach()
		program.Close()
	}
}

func attachType(p *probes) ebpf.AttachType {
	if p.programs.Multi {
		return ebpf.AttachTraceUprobeMulti
	}
	return ebpf.AttachNone
}

// always puts the probes in for all messages, whatever they cost.
func always(b *testing.B, p *probes) (remove func()) {
	b.Helper()
	if err := p.begin(); err != nil {
		b.Fatal(err)
	}
	p.budget = newBudget(1000, time.Now())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := p.run(ctx, time.Now().Add(lookInterval), func(*Message) {}); err != nil {
				done <- err
				return
			}
		}
		done <- p.end(func(*Message) {})
	}()
	return func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// cpu returns the CPU time that a VM has used.
func cpu(b *testing.B, vm *testsupport.VM) time.Duration {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", vm.PID))
	if err != nil || len(threads) == 0 {
		b.Fatalf("the threads of process %d: %v", vm.PID, err)
	}
	var sum time.Duration
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if err != nil {
			continue // it has ended
		}
		var running int64
		fmt.Sscan(string(stat), &running)
		sum += time.Duration(running)
	}
	return sum
}

// exchange sends n small casts from one node to the other and returns how long
// that took, until the other has them all.
func exchange(b *testing.B, from, to *testsupport.VM, n int) time.Duration {
	b.Helper()
	return time.Microsecond * time.Duration(from.EvalInt(b, fmt.Sprintf(
		"element(1, timer:tc(fun() -> traffic:sends({traffic_server, '%[1]s'}, %[2]d, {'$gen_cast', {apply, vmq_swc_store, rpc_broadcast, [1]}}), traffic:wait('%[1]s') end))", to.Node, n)))
}

// BenchmarkMessages measures what a message costs the VM that sends or receives
// it, in CPU time: with probes that do nothing, and with all of its details
// copied, each beside the same without probes, right after each other in random
// order.
func BenchmarkMessages(b *testing.B) {
	testsupport.RequireBPF(b)
	const messages = 100_000
	p := startTraffic(b, testsupport.Options{Flags: []string{"+sbwt", "none"}})
	p.connect(b)
	in, err := newProbes(p.target, Full)
	if err != nil {
		b.Fatal(err)
	}
	defer in.close()
	modes := []string{"off", "empty", "full"}
	put := map[string]func(*testing.B, *probes) func(){"empty": emptyProbes, "full": always}
	for direction, from := range []*testsupport.VM{p.a, p.b} {
		to := []*testsupport.VM{p.b, p.a}[direction]
		b.Run([]string{"sent", "received"}[direction], func(b *testing.B) {
			costs := map[string][]float64{}
			for b.Loop() {
				var round [3]float64
				for _, i := range rand.Perm(len(modes)) {
					remove := func() {}
					if put[modes[i]] != nil {
						remove = put[modes[i]](b, in)
					}
					before := cpu(b, p.a)
					exchange(b, from, to, messages)
					round[i] = float64((cpu(b, p.a) - before).Nanoseconds()) / messages
					remove()
				}
				costs["off"] = append(costs["off"], round[0])
				for i := 1; i < len(modes); i++ {
					costs[modes[i]] = append(costs[modes[i]], round[i]-round[0])
				}
			}
			b.ReportMetric(0, "ns/op") // of so many messages
			b.ReportMetric(median(costs["off"]), "vm-ns/message")
			for _, mode := range modes[1:] {
				b.ReportMetric(median(costs[mode]), mode+"-ns/message")
				b.Logf("%s: %.0f more, %.0f to %.0f", mode, median(costs[mode]), slices.Min(costs[mode]), slices.Max(costs[mode]))
			}
		})
	}
}

// BenchmarkPrograms measures what the probes' programs take for a message, as the
// kernel times them: of a process that does nothing but send, and of a server
// that sends on behalf of others.
func BenchmarkPrograms(b *testing.B) {
	testsupport.RequireBPF(b)
	p := startTraffic(b, testsupport.Options{Flags: []string{"+sbwt", "none"}})
	p.connect(b)
	in, err := newProbes(p.target, Full)
	if err != nil {
		b.Fatal(err)
	}
	defer in.close()
	statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	defer statistics.Close()
	defer always(b, in)()
	sends := func(from, to *testsupport.VM, what string) func() {
		return func() {
			from.Eval(b, fmt.Sprintf("traffic:%s, traffic:wait('%s')", fmt.Sprintf(what, to.Node), to.Node))
		}
	}
	for _, load := range []struct {
		name    string
		program *ebpf.Program
		send    func()
	}{
		{"sent/cast", in.programs.Sent, sends(p.a, p.b, "sends({traffic_server, '%s'}, 20000, {'$gen_cast', {apply, vmq_swc_store, rpc_broadcast, [1]}})")},
		{"sent/call", in.programs.Sent, sends(p.a, p.b, "calls('%s', 3000, 100)")},
		{"sent/server", in.programs.Sent, sends(p.a, p.b, "relays('%s', 3000)")},
		{"received/cast", in.programs.Received, sends(p.b, p.a, "sends({traffic_server, '%s'}, 20000, {'$gen_cast', {apply, vmq_swc_store, rpc_broadcast, [1]}})")},
		{"received/call", in.programs.Received, sends(p.b, p.a, "calls('%s', 3000, 1000)")},
	} {
		b.Run(load.name, func(b *testing.B) {
			before, err := load.program.Stats()
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				load.send()
			}
			after, err := load.program.Stats()
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(0, "ns/op") // of so many messages
			b.ReportMetric(float64((after.Runtime-before.Runtime).Nanoseconds())/float64(after.RunCount-before.RunCount), "kernel-ns/message")
		})
	}
}

// BenchmarkMessageCost measures what a message costs the sender by its size, all
// of it, without probes: so much for each message, and so much for each byte. The
// bytes of a large binary are only copied to the kernel, those of many small
// terms are encoded as well.
func BenchmarkMessageCost(b *testing.B) {
	p := startTraffic(b, testsupport.Options{Flags: []string{"+sbwt", "none"}})
	p.connect(b)
	const term = 23 // bytes of each element of the list
	for _, size := range []int{10, 1000, 10_000, 100_000} {
		for name, content := range map[string]string{
			"binary": fmt.Sprintf("binary:copy(<<1>>, %d)", size),
			"terms":  fmt.Sprintf("[{N, <<N:64>>} || N <- lists:seq(1000, 999 + %d div %d)]", size, term),
		} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				n := 500_000_000 / (size + 10_000)
				for b.Loop() {
					before := cpu(b, p.a)
					p.a.Eval(b, fmt.Sprintf("traffic:sends({traffic_server, '%[1]s'}, %[2]d, {'$gen_cast', %[3]s}), traffic:wait('%[1]s')", p.b.Node, n, content))
					b.ReportMetric(float64((cpu(b, p.a)-before).Nanoseconds())/float64(n), "vm-ns/message")
				}
			})
		}
	}
}

// BenchmarkThroughput compares how many messages the VM sends and gets in a time
// without probes, with probes that do nothing, and as they are sampled: each
// right after the other, in random order.
func BenchmarkThroughput(b *testing.B) {
	testsupport.RequireBPF(b)
	const messages = 400_000
	p := startTraffic(b, testsupport.Options{Flags: []string{"+S", "1", "+sbwt", "none"}})
	p.connect(b)
	modes := []string{"off", "empty", "sampled", "full"}
	rates := map[string][]float64{}
	for b.Loop() {
		round := map[string]float64{}
		for _, i := range rand.Perm(len(modes)) {
			round[modes[i]] = throughput(b, p, modes[i], messages)
		}
		for mode, rate := range round {
			rates[mode] = append(rates[mode], rate/round["off"])
		}
		rates["rate"] = append(rates["rate"], round["off"])
	}
	b.ReportMetric(median(rates["rate"]), "messages/s")
	for _, mode := range modes[1:] {
		b.ReportMetric(median(rates[mode]), mode+"/off")
		b.Logf("%s: %.3f, %.3f to %.3f", mode, median(rates[mode]), slices.Min(rates[mode]), slices.Max(rates[mode]))
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// throughput returns messages per second, half of them sent and half received.
func throughput(b *testing.B, p pair, mode string, messages int) float64 {
	switch mode {
	case "empty":
		probes, err := newProbes(p.target, Full)
		if err != nil {
			b.Fatal(err)
		}
		defer probes.close()
		defer emptyProbes(b, probes)()
	case "sampled", "full":
		s, err := Open(p.target, Options{Detail: map[string]Detail{"sampled": Sampled, "full": Full}[mode]})
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, func(*Message) {}) }()
		defer func() {
			stop()
			if err := <-done; err != nil {
				b.Error(err)
			}
			if s.Stats().Every < 2 {
				b.Logf("%+v", s.Stats())
			}
		}()
	}
	spent := exchange(b, p.a, p.b, messages) + exchange(b, p.b, p.a, messages)
	return float64(2*messages) / spent.Seconds()
}
