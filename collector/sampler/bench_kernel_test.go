package sampler

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/perf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam"
	"github.com/beamprof/beamprof/internal/benchload"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// benchmarkFrequency is how often a second the benchmarks sample: often, to
// have many samples soon.
const benchmarkFrequency = 999

// sampleTimeout bounds the wait for samples of a load that has died.
const sampleTimeout = time.Minute

// BenchmarkKernelSide measures what one sample costs in the kernel, beside a
// program that only outputs a record of 1 KiB, and one that only has the kernel
// walk its own stack. They run at the ticks of clocks of their own with the same
// period. Ticks that hit other processes are charged to the samples.
func BenchmarkKernelSide(b *testing.B) {
	for _, l := range benchload.Stacks {
		b.Run(l.Name, func(b *testing.B) {
			target := attach(b, l, 1)
			b.Run("sample", func(b *testing.B) { benchmarkKernelSide(b, target) })
		})
	}
}

// BenchmarkKernelSideAsked measures what it costs more to copy who waits for the
// process that was sampled: the same server busy for nobody, for one process,
// and for a chain of three.
func BenchmarkKernelSideAsked(b *testing.B) {
	for _, l := range benchload.Asked {
		b.Run(l.Name, func(b *testing.B) {
			target := attach(b, l, 1)
			b.Run("sample", func(b *testing.B) { benchmarkKernelSide(b, target) })
		})
	}
}

func benchmarkKernelSide(b *testing.B, target *beam.Target) {
	countRunTime(b)
	session, err := Open(target, Options{Frequency: benchmarkFrequency})
	if err != nil {
		b.Fatal(err)
	}
	defer session.Close()
	empty := startEmpty(b, target.PID)
	walk := startWalk(b, target.PID)
	ctx, cancel := context.WithTimeout(context.Background(), sampleTimeout)
	defer cancel()
	var samples, callers, bytes int
	var frames [collector.FrameMarker + 1]int
	if err := session.Run(ctx, func(s *collector.Sample) {
		samples++
		callers += len(s.Callers)
		bytes += int(unsafe.Sizeof(session.sampler.record.Header)) + int(session.sampler.record.Payload)
		for _, f := range s.Stack {
			frames[f.Kind]++
		}
		if samples == b.N {
			cancel()
		}
	}); err != nil {
		b.Fatal(err)
	}
	if samples < b.N {
		b.Fatalf("only %d samples in %v: the load has stopped", samples, sampleTimeout)
	}
	per := func(total float64, unit string) { b.ReportMetric(total/float64(samples), unit) }
	b.ReportMetric(0, "ns/op") // the clock's period
	per(runTime(b, session.sampler.programs.Sample), "kernel-ns/sample")
	per(runTime(b, empty), "empty-ns/sample")
	per(runTime(b, walk), "walk-ns/sample")
	per(float64(bytes), "bytes/sample")
	per(float64(callers), "callers")
	per(float64(frames[collector.FrameErlang]), "erlang-frames")
	per(float64(frames[collector.FrameNative]), "native-frames")
	per(float64(frames[collector.FrameKernel]), "kernel-frames")
}

// attach starts a VM with a load and attaches to it.
func attach(b *testing.B, l benchload.Load, schedulers int) *beam.Target {
	b.Helper()
	testsupport.RequireBPF(b)
	target, err := beam.Attach(l.Start(b, schedulers).PID)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { target.Close() })
	return target
}

// countRunTime makes the kernel measure its programs' run time during the
// benchmark.
func countRunTime(b *testing.B) {
	b.Helper()
	if stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME); err == nil { // Linux 5.8
		b.Cleanup(func() { stats.Close() })
		return
	}
	const switchFile = "/proc/sys/kernel/bpf_stats_enabled"
	before, err := os.ReadFile(switchFile)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	if err := os.WriteFile(switchFile, []byte("1"), 0); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.WriteFile(switchFile, []byte(strings.TrimSpace(string(before))), 0) })
}

// runTime returns how long a program ran since it was loaded, in ns.
func runTime(b *testing.B, program *ebpf.Program) float64 {
	b.Helper()
	stats, err := program.Stats()
	if err != nil {
		b.Fatal(err)
	}
	return float64(stats.Runtime.Nanoseconds())
}

// emptyOutput is what the empty program outputs for each tick, in bytes.
const emptyOutput = 1024

// startEmpty starts a sampler that takes no samples: at each tick that hits the
// process it outputs a record of fixed size and content. It ends with the benchmark.
func startEmpty(b *testing.B, pid int) *ebpf.Program {
	b.Helper()
	output := newMap(b, &ebpf.MapSpec{Type: ebpf.PerfEventArray})
	reader, err := perf.NewReaderWithOptions(output, minBuffer, perf.ReaderOptions{Watermark: minBuffer / 4})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var record perf.Record
		for reader.ReadInto(&record) == nil {
		}
	}()
	b.Cleanup(func() {
		reader.Close()
		<-done
	})
	return startAtTicks(b, pid, asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, output.FD()),
		asm.LoadImm(asm.R3, 0xffffffff, asm.DWord), // BPF_F_CURRENT_CPU
		asm.Mov.Reg(asm.R4, asm.R7),
		asm.Mov.Imm(asm.R5, emptyOutput),
		asm.FnPerfEventOutput.Call(),
	})
}

// startWalk starts a sampler that does nothing but have the kernel walk its own
// stack, which takes as long as it takes, at each tick that hits the process. It
// ends with the benchmark.
func startWalk(b *testing.B, pid int) *ebpf.Program {
	b.Helper()
	return startAtTicks(b, pid, asm.Instructions{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Imm(asm.R3, 64*8), // KERNEL_STACK_MAX
		asm.Mov.Imm(asm.R4, 0),
		asm.FnGetStack.Call(),
	})
}

// startAtTicks runs a program at each tick that hits a process until the benchmark
// ends. It finds its context in R6, and the address of emptyOutput bytes in R7.
func startAtTicks(b *testing.B, pid int, body asm.Instructions) *ebpf.Program {
	b.Helper()
	scratch := newMap(b, &ebpf.MapSpec{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: emptyOutput, MaxEntries: 1})
	instructions := append(asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.FnGetCurrentPidTgid.Call(),
		asm.RSh.Imm(asm.R0, 32),
		asm.JNE.Imm(asm.R0, int32(pid), "end"),
		asm.StoreImm(asm.RFP, -4, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, scratch.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "end"),
		asm.Mov.Reg(asm.R7, asm.R0),
	}, body...)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "at_ticks", Type: ebpf.PerfEvent, License: "Dual BSD/GPL",
		Instructions: append(instructions, asm.Mov.Imm(asm.R0, 0).WithSymbol("end"), asm.Return()),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { program.Close() })
	events := newPerfEvents(program.FD(), benchmarkFrequency)
	b.Cleanup(events.close)
	if _, err := events.update(); err != nil {
		b.Fatal(err)
	}
	return program
}

func newMap(b *testing.B, spec *ebpf.MapSpec) *ebpf.Map {
	b.Helper()
	m, err := ebpf.NewMap(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}
