package bpf

import (
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkOtherProcess measures what the tick costs a process that is not
// sampled: the clocks are per CPU, so the program runs there, too.
func BenchmarkOtherProcess(b *testing.B) {
	p := load(b)
	statistics, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	defer statistics.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	attr := unix.PerfEventAttr{
		Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size: unix.PERF_ATTR_SIZE_VER1, Sample: 1_000_000_000 / 4999,
	}
	fd, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC) // this thread's clock
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, p.Sample.FD()); err != nil {
		b.Fatal(err)
	}
	for {
		stats, err := p.Sample.Stats()
		if err != nil {
			b.Fatal(err)
		}
		if stats.RunCount >= uint64(b.N) {
			b.ReportMetric(0, "ns/op") // the clock's period
			b.ReportMetric(float64(stats.Runtime.Nanoseconds())/float64(stats.RunCount), "kernel-ns/tick")
			return
		}
		for range 100_000 { // time passes while this thread runs
			runtime.KeepAlive(stats)
		}
	}
}
