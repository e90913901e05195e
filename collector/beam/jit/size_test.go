package jit

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"unsafe"

	"github.com/beamprof/beamprof/collector/beam/memory"
)

// largeImage has the list of a large node: 1000 modules with 40 000 ranges and
// as many lines.
func largeImage() *image {
	m := newImage(true)
	for i := range 1000 {
		name := fmt.Sprintf("large_application_module_%d", i)
		ranges := []testRange{{0, 0x200, name + headerSuffix, nil}}
		for f := uint32(0); f < 19; f++ {
			start, function := 0x200+f*0x200, fmt.Sprintf("%s:a_function_of_it_%d/3", name, f)
			line := testLine{start, 10 * f, "src/" + name + ".erl"}
			ranges = append(ranges,
				testRange{start, start + 0x28, function + prologueSuffix, nil},
				testRange{start + 0x28, start + 0x200, function, []testLine{line, line}})
		}
		ranges = append(ranges, testRange{0x2800, 0x2840, name + footerSuffix, nil})
		m.register(symfile(name, 0x7f0000000000+uint64(i)*0x2880, 0x2840, ranges...))
	}
	return m
}

// What is held for 40 000 ranges is a small part of the 64 MiB that the whole
// profiler may take.
func TestHeldMemory(t *testing.T) {
	m := largeImage()
	live := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := live()
	table := mustOpen(t, m)
	held := live() - before
	_, ranges, lines := table.Stats()
	if ranges < 40000 || lines < 38000 {
		t.Errorf("%d ranges, %d lines", ranges, lines)
	}
	if held > 8<<20 {
		t.Errorf("%d bytes held", held)
	}
	t.Logf("%d bytes held for %d ranges and %d lines", held, ranges, lines)
	runtime.KeepAlive(m)
	runtime.KeepAlive(table)
}

// remote is an image that is read with the system calls that reading another
// process takes.
type remote struct {
	process *memory.Process
	offset  uint64
}

func (r remote) Read(buf []byte, address uint64) error { return r.process.Read(buf, address+r.offset) }

func BenchmarkOpen40000(b *testing.B) {
	m := largeImage()
	process, err := memory.Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer process.Close()
	r := remote{process, uint64(uintptr(unsafe.Pointer(&m.bytes[0]))) - imageBase}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(r, m.descriptor); err != nil {
			b.Fatal(err)
		}
	}
	runtime.KeepAlive(m)
}
