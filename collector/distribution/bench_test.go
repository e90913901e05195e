package distribution

import (
	"context"
	"fmt"
	"math/rand/v2"
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
			if err := p.run(ctx, time.Now().Add(lookInterval), false, func(*Message) {}); err != nil {
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

// cpu returns the CPU time that a VM has used, by its process's CPU clock: the
// complement of the pid above three bits, of which 2 is what the scheduler counts
// (CPUCLOCK_SCHED, include/linux/posix-timers_types.h).
func cpu(b *testing.B, vm *testsupport.VM) time.Duration {
	b.Helper()
	var used unix.Timespec
	if err := unix.ClockGettime(int32(^vm.PID<<3|2), &used); err != nil {
		b.Fatalf("the CPU time of process %d: %v", vm.PID, err)
	}
	return time.Duration(used.Nano())
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
	put := map[string]func(*testing.B, *probes) func(){
		"off": func(*testing.B, *probes) func() { return func() {} }, "empty": emptyProbes, "full": always,
	}
	for direction, from := range []*testsupport.VM{p.a, p.b} {
		to := []*testsupport.VM{p.b, p.a}[direction]
		b.Run([]string{"sent", "received"}[direction], func(b *testing.B) {
			modes := []string{"off", "empty", "full"}
			costs := compare(b, modes, func(mode string) float64 {
				defer put[mode](b, in)()
				before := cpu(b, p.a)
				exchange(b, from, to, messages)
				return float64((cpu(b, p.a) - before).Nanoseconds()) / messages
			}, func(cost, off float64) float64 { return cost - off })
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
	rates := compare(b, modes, func(mode string) float64 { return throughput(b, p, mode, messages) },
		func(rate, off float64) float64 { return rate / off })
	b.ReportMetric(median(rates["off"]), "messages/s")
	for _, mode := range modes[1:] {
		b.ReportMetric(median(rates[mode]), mode+"/off")
		b.Logf("%s: %.3f, %.3f to %.3f", mode, median(rates[mode]), slices.Min(rates[mode]), slices.Max(rates[mode]))
	}
}

// compare measures in all modes, the first of which is without probes, in rounds of
// random order. It returns what that one gave, and by mode how each other one of
// the same round relates to it.
func compare(b *testing.B, modes []string, measure func(mode string) float64, relate func(value, off float64) float64) map[string][]float64 {
	all := map[string][]float64{}
	for b.Loop() {
		round := make([]float64, len(modes))
		for _, i := range rand.Perm(len(modes)) {
			round[i] = measure(modes[i])
		}
		all[modes[0]] = append(all[modes[0]], round[0])
		for i := 1; i < len(modes); i++ {
			all[modes[i]] = append(all[modes[i]], relate(round[i], round[0]))
		}
	}
	return all
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
