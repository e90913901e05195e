package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"sync"

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

// garbageMemory is how much garbage there may be before it is collected, in bytes.
const garbageMemory = 16 << 20

// collectLess has garbage collected when there is garbageMemory of it, until end is
// called. Go does so when there is as much of it as is in use (GOGC), which at the
// beginning is little, and a collection costs as much as half a second of sampling.
func collectLess() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	// While next to nothing is in use the limit is this part of 4 MiB
	// (heapMinimum in runtime/mgcpacer.go, Go 1.26).
	const firstPercent = 100 * (garbageMemory + garbageMemory/2) / (4 << 20)
	before := debug.SetGCPercent(firstPercent)
	var mutex sync.Mutex
	ended := false
	afterCollections(func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		if ended {
			return false
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		debug.SetGCPercent(int(100 * garbageMemory / max(m.HeapAlloc, garbageMemory/16)))
		return true
	})
	return func() {
		mutex.Lock()
		defer mutex.Unlock()
		ended = true
		debug.SetGCPercent(before)
	}
}

// afterCollections calls f, from another goroutine, after each collection of garbage
// for as long as it returns true.
func afterCollections(f func() bool) {
	type unused struct{ _ [32]byte } // its end is that of the collection
	runtime.AddCleanup(&unused{}, func(struct{}) {
		if f() {
			afterCollections(f)
		}
	}, struct{}{})
}
