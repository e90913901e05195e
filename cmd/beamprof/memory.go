package main

import (
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// heapSize is how much of the heap is to be in huge pages, in bytes: more than a
// recording of a large application needs.
const heapSize = 32 << 20

// useHugePages has the kernel back what is allocated from here on with huge pages,
// where it gives them to who asks (transparent_hugepage/enabled is madvise, as
// Ubuntu and others have it). A profiler wakes up beside programs that took the
// CPU's caches, and finds the translation of each page again: with pages of 4 KiB
// that takes longer than the work. It is only advice, so failing is no error.
func useHugePages() {
	// The runtime keeps what it has of the kernel, with what was advised for it,
	// and allocates from it again. Nothing of the block is ever touched here.
	block := make([]byte, heapSize)
	_ = unix.Madvise(block, unix.MADV_HUGEPAGE)
	runtime.KeepAlive(block)
	runtime.GC()
}

// Garbage may take garbageMemory, in bytes, or as much as what is in use; at most
// garbagePercent of that.
const (
	garbageMemory  = 32 << 20
	garbagePercent = 400
)

// collectLess collects garbage less often than Go does by itself (GOGC), as far as
// there is memory for it, and returns what was set before, in per cent.
func collectLess() (before int) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	percent := min(max(100*garbageMemory/int(m.HeapAlloc), 100), garbagePercent)
	before = debug.SetGCPercent(percent)
	if os.Getenv("GOGC") != "" {
		debug.SetGCPercent(before)
	}
	return before
}
