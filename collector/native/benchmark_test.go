package native

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// A frame that was met before, of a stack of about ten: what a sample costs.
func BenchmarkUnwindCached(b *testing.B) {
	pid := start(b, compile(b))
	s := open(b, pid)
	regs, stack := blocked(b, pid, pid)
	var pcs []uint64
	stop := func(uint64) bool { return false }
	for b.Loop() {
		again := regs
		pcs, _ = s.Unwind(&again, stack, stop, pcs[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(pcs)), "ns/frame")
	b.ReportMetric(float64(len(pcs)), "frames")
}

// The same, with each frame met for the first time.
func BenchmarkUnwindUncached(b *testing.B) {
	pid := start(b, compile(b))
	s := open(b, pid)
	regs, stack := blocked(b, pid, pid)
	var pcs []uint64
	for b.Loop() {
		clear(s.rows.slots)
		clear(s.rows.rows)
		again := regs
		pcs, _ = s.Unwind(&again, stack, nil, pcs[:0])
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(pcs)), "ns/frame")
}

// An object when it is first hit: headers, unwind table, symbols. held-B is
// what stays in memory for it.
func BenchmarkOpenObject(b *testing.B) {
	for _, path := range installed(b) {
		b.Run(filepath.Base(path), func(b *testing.B) {
			file, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			load := func() *object {
				o, err := newObject(file, "object", &hostArchitecture)
				if err != nil {
					b.Fatal(err)
				}
				// Some address: whether it has an entry does not matter.
				_, _ = o.frame(o.segments[0].Vaddr)
				o.symbol(o.segments[0].Vaddr)
				return o
			}
			b.ReportAllocs()
			for b.Loop() {
				load()
			}
			b.ReportMetric(held(func() any { return load() }), "held-B")
		})
	}
}

// held returns how many bytes of heap what make returns keeps.
func held(make func() any) float64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC() // the first one may leave what had cleanups to run
	runtime.ReadMemStats(&before)
	kept := make()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// From nothing to the named stacks of all threads of a VM: what opening costs
// before the first sample, and in memory.
func BenchmarkFirstStacks(b *testing.B) {
	vm := testsupport.StartVM(b, testsupport.Options{Eval: "crypto:start()"})
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", vm.PID))
	if err != nil {
		b.Fatal(err)
	}
	type thread struct {
		Registers
		Stack
	}
	var threads []thread
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			b.Fatal(err)
		}
		regs, stack := blocked(b, vm.PID, tid)
		threads = append(threads, thread{regs, stack})
	}
	walk := func() *Space {
		s, err := Open(vm.PID)
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range threads {
			pcs, _ := s.Unwind(&t.Registers, t.Stack, nil, nil)
			names(s, pcs)
		}
		return s
	}
	kept := held(func() any { return walk() })
	for b.Loop() {
		walk().Close()
	}
	b.ReportMetric(float64(len(threads)), "threads")
	b.ReportMetric(kept, "held-B")
}

// A function's name, asked for the first time and again.
func BenchmarkSymbol(b *testing.B) {
	pid := start(b, compile(b))
	s := open(b, pid)
	regs, stack := blocked(b, pid, pid)
	pcs, _ := s.Unwind(&regs, stack, nil, nil)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			for _, r := range s.regions {
				if r.object != nil && r.object.symbols != nil {
					clear(r.object.symbols.names)
				}
			}
			s.Symbol(pcs[0], true)
		}
	})
	b.Run("again", func(b *testing.B) {
		for b.Loop() {
			s.Symbol(pcs[0], true)
		}
	})
}

// Mappings that did not change, of the test itself.
func BenchmarkRefresh(b *testing.B) {
	s := open(b, os.Getpid())
	b.ReportAllocs()
	for b.Loop() {
		if err := s.Refresh(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKernelSymbols(b *testing.B) {
	load := func() *KernelSymbols {
		k, err := LoadKernelSymbols()
		if err != nil {
			b.Skip(err)
		}
		return k
	}
	k := load()
	b.Run("load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			load()
		}
		b.ReportMetric(held(func() any { return load() }), "held-B")
		b.ReportMetric(float64(len(k.starts)), "functions")
	})
	b.Run("lookup", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			k.Lookup(k.starts[i*7919%len(k.starts)] + 3)
		}
	})
}
