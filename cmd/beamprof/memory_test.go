package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// What is allocated after useHugePages is where the kernel was asked for them.
func TestUseHugePages(t *testing.T) {
	_, err := os.Stat("/sys/kernel/mm/transparent_hugepage")
	testsupport.RequireKernel(t, "transparent huge pages", err)
	useHugePages()
	asked := hugeMappings(t)
	const block, most = 1 << 20, 1 << 8
	var blocks [][]byte
	defer func() { runtime.KeepAlive(blocks) }()
	for range most {
		b := make([]byte, block)
		blocks = append(blocks, b)
		address := uint64(uintptr(unsafe.Pointer(&b[0])))
		for _, m := range asked {
			if m.start <= address && address+block <= m.end {
				return
			}
		}
	}
	t.Errorf("none of %d MiB that were allocated is in the memory %x for which huge pages were asked", len(blocks), asked)
}

// Garbage is collected when there is so much of it, however little is in use, and
// afterwards as before.
func TestCollectLess(t *testing.T) {
	t.Setenv("GOGC", "")
	percent := debug.SetGCPercent(100)
	defer debug.SetGCPercent(percent)
	var m runtime.MemStats
	look := func() (garbage uint64) {
		runtime.ReadMemStats(&m)
		return m.NextGC - min(m.NextGC, m.HeapAlloc)
	}
	end := collectLess()
	if room := look(); room < garbageMemory {
		t.Errorf("%d bytes of garbage are collected at the beginning", room)
	}
	kept := make([]byte, 40<<20)
	for range 3 {
		runtime.GC()
		enough := func() bool {
			room := look()
			return room > garbageMemory*3/4 && room < garbageMemory*5/4
		}
		for try := 0; !enough(); try++ {
			if try == 1000 {
				t.Fatalf("%d bytes of garbage are collected with %d in use", look(), m.HeapAlloc)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	runtime.KeepAlive(kept)
	end()
	runtime.GC()
	if now := debug.SetGCPercent(100); now != 100 {
		t.Errorf("GOGC is left at %d", now)
	}
}

type addresses struct{ start, end uint64 }

// hugeMappings returns this process's mappings with the flag hg (MADV_HUGEPAGE).
func hugeMappings(t *testing.T) (all []addresses) {
	t.Helper()
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var last addresses
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var here addresses
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &here.start, &here.end); n == 2 {
			last = here
		}
		if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && strings.Contains(flags+" ", " hg ") {
			all = append(all, last)
		}
	}
	return all
}
