package jit_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/beamprof/beamprof/collector/beam/jit"
	"github.com/beamprof/beamprof/internal/testsupport"
)

func openBench(b *testing.B, eval string) (*testsupport.VM, *jit.Table) {
	vm := testsupport.StartVM(b, testsupport.Options{Eval: eval})
	return vm, openVM(b, vm)
}

// The code of a bare node, read from a running VM.
func BenchmarkOpenVM(b *testing.B) {
	vm := testsupport.StartVM(b, testsupport.Options{})
	benchmarkOpen(b, vmMemory(b, vm), descriptorAddress(b, vm.PID))
}

// A node of the size of a large application, read from a running VM.
func BenchmarkOpenLargeVM(b *testing.B) {
	vm := testsupport.StartVM(b, testsupport.Options{Eval: strings.TrimSuffix(strings.TrimSpace(loadMany), ",")})
	benchmarkOpen(b, vmMemory(b, vm), descriptorAddress(b, vm.PID))
}

func benchmarkOpen(b *testing.B, memory jit.Memory, descriptor uint64) {
	b.ReportAllocs()
	var table *jit.Table
	for b.Loop() {
		var err error
		if table, err = jit.Open(memory, descriptor); err != nil {
			b.Fatal(err)
		}
	}
	entries, ranges, lines := table.Stats()
	b.ReportMetric(float64(entries), "entries")
	b.ReportMetric(float64(ranges), "ranges")
	b.ReportMetric(float64(lines), "lines")
}

func BenchmarkRefreshUnchanged(b *testing.B) {
	_, table := openBench(b, "")
	at := uint64(1)
	for b.Loop() {
		if _, err := table.Refresh(at); err != nil {
			b.Fatal(err)
		}
		at++
	}
}

// addresses returns addresses in code, all over a VM.
func addresses(table *jit.Table) []uint64 {
	var all []uint64
	for f := range jit.Functions(table) {
		all = append(all, f.Start+rand.Uint64N(f.End-f.Start))
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func BenchmarkLookup(b *testing.B) {
	_, table := openBench(b, strings.TrimSuffix(strings.TrimSpace(loadMany), ","))
	pcs := addresses(table)
	i := 0
	for b.Loop() {
		if _, ok := table.Lookup(pcs[i], 1); !ok {
			b.Fatal("not found")
		}
		if i++; i == len(pcs) {
			i = 0
		}
	}
}

func BenchmarkLine(b *testing.B) {
	_, table := openBench(b, "")
	var functions []jit.Function
	for f := range jit.Functions(table) {
		functions = append(functions, f)
	}
	i := 0
	for b.Loop() {
		functions[i].Line(functions[i].End - 1)
		if i++; i == len(functions) {
			i = 0
		}
	}
}

// The words of a stack: code, and terms and heap addresses.
func BenchmarkContains(b *testing.B) {
	_, table := openBench(b, strings.TrimSuffix(strings.TrimSpace(loadMany), ","))
	pcs := addresses(table)
	low, high := slices.Min(pcs), slices.Max(pcs)
	near, far := make([]uint64, len(pcs)), make([]uint64, len(pcs))
	for i := range pcs {
		near[i] = low + rand.Uint64N(high-low) // in or between the blocks of code
		far[i] = rand.Uint64N(1<<40) << 4
	}
	for name, words := range map[string][]uint64{"hit": pcs, "near miss": near, "far miss": far} {
		b.Run(name, func(b *testing.B) {
			i := 0
			for b.Loop() {
				table.Contains(words[i])
				if i++; i == len(words) {
					i = 0
				}
			}
		})
	}
}
