package sampler

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
)

// processTimes are what /proc/PID/stat says of a process.
type processTimes struct {
	cpu     float64 // user and system time, in seconds
	started uint64  // start time in ticks since boot: tells a reused pid
	ended   bool    // it did, and nobody has waited for it yet: these are its last times
}

func readProcessTimes(process procfs.Proc) (processTimes, error) {
	stat, err := process.Stat()
	if err != nil {
		return processTimes{}, fmt.Errorf("process %d: %w", process.PID, err)
	}
	return processTimes{cpu: stat.CPUTime(), started: stat.Starttime, ended: stat.State == "Z" || stat.State == "X"}, nil
}

// processClock returns the CPU time of a process, in seconds, as processTimes has it:
// its CPU clock (clock_getcpuclockid(3)), which costs a fraction of reading
// /proc/PID/stat.
func processClock(pid int) (float64, error) {
	const sched = 2 // CPUCLOCK_SCHED (include/linux/posix-timers_types.h, Linux 6.12)
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &t); err != nil {
		return 0, fmt.Errorf("the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()).Seconds(), nil
}

// threadTimes compares the samples of each group of threads, by the value of
// the label `thread`, with the kernel's exact account of its run time. The
// sampling clock ticks late where threads are switched, so that those that run
// for microseconds at a time get too few samples.
type threadTimes struct {
	period  float64            // seconds that a sample stands for
	start   map[int]float64    // seconds that each thread had run when sampling began; nil if not known
	now     map[int]float64    // and when it ended
	threads map[int]*sampled   // by tid
	samples map[string]uint64  // by label
	seconds map[string]float64 // by label: of samples that can't be compared
}

// sampled is what was sampled of one thread, under the last label it had.
type sampled struct {
	label   string
	seconds float64
}

func newThreadTimes(pid, frequency int) *threadTimes {
	start, _ := readThreadTimes(pid) // without, no weights are told
	return threadTimesFrom(start, 1/float64(frequency))
}

func threadTimesFrom(start map[int]float64, period float64) *threadTimes {
	return &threadTimes{
		period: period, start: start, threads: map[int]*sampled{},
		samples: map[string]uint64{}, seconds: map[string]float64{},
	}
}

// next begins where t was stopped.
func (t *threadTimes) next() *threadTimes { return threadTimesFrom(t.now, t.period) }

func (t *threadTimes) add(thread *collector.Thread) {
	label := thread.Label()
	t.samples[label]++
	s, ok := t.threads[thread.TID]
	switch {
	case ok:
		s.label = label
		s.seconds += t.period
	case len(t.threads) < maxFrames:
		t.threads[thread.TID] = &sampled{label, t.period}
	default:
		t.seconds[label] += t.period
	}
}

// stop takes the kernel's account again.
func (t *threadTimes) stop(pid int) { t.now, _ = readThreadTimes(pid) }

// byLabel returns the run time from start to stop, in seconds by label: the
// kernel's of threads that were there at the end, that of their samples for those
// that were not. It is nil if the kernel's is not known.
func (t *threadTimes) byLabel(label func(tid int) string) map[string]float64 {
	if t.start == nil || t.now == nil {
		return nil
	}
	for tid, seconds := range t.now {
		t.seconds[label(tid)] += max(0, seconds-t.start[tid])
	}
	for tid, s := range t.threads {
		if _, lives := t.now[tid]; !lives {
			t.seconds[s.label] += s.seconds
		}
	}
	return t.seconds
}

// readThreadTimes returns how long each thread of a process has run, in seconds:
// the first number of /proc/PID/task/TID/schedstat, in nanoseconds
// (Documentation/scheduler/sched-stats.rst; every distribution's kernel has it).
func readThreadTimes(pid int) (map[int]float64, error) {
	dir := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the threads of process %d: %w", pid, err)
	}
	times := make(map[int]float64, len(entries))
	for _, entry := range entries {
		tid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		content, err := os.ReadFile(filepath.Join(dir, entry.Name(), "schedstat"))
		if err != nil {
			continue // it ended
		}
		first, _, _ := strings.Cut(string(content), " ")
		nanoseconds, err := strconv.ParseUint(first, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("the run time of thread %d: %w", tid, err)
		}
		times[tid] = float64(nanoseconds) / 1e9
	}
	if len(times) == 0 {
		return nil, fmt.Errorf("the kernel does not tell the run times of threads")
	}
	return times, nil
}
