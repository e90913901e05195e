package sampler

import (
	"math"
	"os"
	"testing"

	"github.com/prometheus/procfs"

	"github.com/beamprof/beamprof/collector"
)

func TestThreadTimes(t *testing.T) {
	times := &threadTimes{
		period: 0.01, threads: map[int]*sampled{}, samples: map[string]uint64{}, seconds: map[string]float64{},
		start: map[int]float64{1: 5, 2: 1, 3: 7},
	}
	for tid, samples := range map[int]int{1: 90, 2: 5, 3: 4, 4: 3} {
		thread := &collector.Thread{TID: tid, Kind: collector.ThreadNative, Name: "pool"}
		if tid == 1 {
			thread.Kind = collector.ThreadScheduler
		}
		for range samples {
			times.add(thread)
		}
	}
	times.now = map[int]float64{1: 6, 2: 1.08, 5: 0.02} // 3 ended, 4 came and went, 5 came and was not seen
	seconds := times.byLabel(func(tid int) string { return map[int]string{1: "scheduler", 2: "pool", 5: "pool"}[tid] })
	stats := Stats{Frequency: 100, ThreadSamples: times.samples, ThreadSeconds: seconds}
	for label, want := range map[string]float64{"scheduler": 1 / 0.90, "pool": (0.08 + 0.04 + 0.03 + 0.02) / 0.12} {
		if got := stats.Weights()[label]; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s weighs %v, want %v", label, got, want)
		}
	}
	times.now = nil
	if got := times.byLabel(nil); got != nil {
		t.Errorf("without the kernel's account: %v", got)
	}
}

// The clock and /proc/PID/stat agree, to the two clock ticks that the latter
// leaves out.
func TestProcessClock(t *testing.T) {
	process, err := procfs.Self()
	if err != nil {
		t.Fatal(err)
	}
	for sum, last := 0, 0.0; last < 0.2; { // some time for both to tell
		for i := range 1 << 20 {
			sum += i * sum
		}
		before, err := processClock(process.PID)
		if err != nil {
			t.Fatal(err)
		}
		times, err := readProcessTimes(process)
		if err != nil {
			t.Fatal(err)
		}
		after, err := processClock(process.PID)
		if err != nil {
			t.Fatal(err)
		}
		const ticks = 2.0 / 100 // USER_HZ
		if before < last || times.cpu < before-ticks || times.cpu > after+ticks/2 {
			t.Fatalf("%v s, then in /proc/PID/stat %v s, then %v s", before, times.cpu, after)
		}
		last = after
	}
	if _, err := processClock(1 << 28); err == nil { // PID_MAX_LIMIT is below
		t.Error("a process that there is not has a clock")
	}
}

func TestReadThreadTimes(t *testing.T) {
	times, err := readThreadTimes(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if own, ok := times[os.Getpid()]; !ok || own < 0 || own > 3600 {
		t.Errorf("the first thread has run %v s", own)
	}
	if _, err := readThreadTimes(1 << 30); err == nil {
		t.Error("a process that does not exist has run times")
	}
}
