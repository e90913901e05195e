package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/benchload"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// The benchmarks run the program itself, and perf as the yardstick, on a VM with
// two schedulers that never rest and with the code of a large application.
// benchmarkTime is how long each run profiles, aloneTime how long the target is
// left alone before and after.
const (
	benchmarkTime = 30 * time.Second
	aloneTime     = 15 * time.Second
)

// profiler is a program that profiles a process for a while into a directory.
type profiler struct {
	name      string
	arguments func(pid int, directory string) []string
}

// profilers returns beamprof, built as for users, and perf if there is one. They
// profile for so long.
func profilers(b *testing.B, duration time.Duration) []profiler {
	b.Helper()
	program := filepath.Join(b.TempDir(), "beamprof")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	all := []profiler{{"beamprof", func(pid int, directory string) []string {
		return []string{program, "record", "--pid", strconv.Itoa(pid), "--duration", duration.String(), "--output", directory}
	}}}
	if perf, err := exec.LookPath("perf"); err == nil {
		all = append(all, profiler{"perf", func(pid int, directory string) []string {
			return []string{perf, "record", "-F", "99", "-g", "-p", strconv.Itoa(pid), "-o", filepath.Join(directory, "perf.data"),
				"--", "sleep", strconv.Itoa(int(duration.Seconds()))}
		}})
	}
	return all
}

// cost is what a run of a profiler took.
type cost struct {
	user, system, bpf time.Duration // CPU time; bpf is taken from the target's
	memory            int           // peak resident memory, KiB
	data              int64         // written, bytes
}

// run profiles a process once.
func (p profiler) run(b *testing.B, pid int) cost {
	b.Helper()
	directory := b.TempDir()
	arguments := p.arguments(pid, directory)
	cmd := exec.Command(arguments[0], arguments[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := os.Create(filepath.Join(b.TempDir(), "out"))
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	watched := watch(cmd.Process.Pid)
	err = cmd.Wait()
	c := watched.end()
	if err != nil {
		text, _ := os.ReadFile(out.Name())
		b.Fatalf("%s: %v\n%s", strings.Join(arguments, " "), err, text)
	}
	c.user, c.system = cmd.ProcessState.UserTime(), cmd.ProcessState.SystemTime()
	files, _ := filepath.Glob(filepath.Join(directory, "*"))
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			c.data += info.Size()
		}
	}
	return c
}

// watcher watches a process: what wait(2) does not tell. The peak of the resident
// memory that it does tell is that of the process before exec, if that is larger.
type watcher struct {
	stop     chan struct{}
	done     chan struct{}
	memory   int
	mutex    sync.Mutex // guards programs
	programs map[ebpf.ProgramID]*ebpf.Program
}

func watch(pid int) *watcher {
	w := &watcher{stop: make(chan struct{}), done: make(chan struct{}), programs: map[ebpf.ProgramID]*ebpf.Program{}}
	go func() {
		defer close(w.done)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for tick := 0; ; tick++ {
			w.memory = max(w.memory, peakMemory(pid))
			if tick%50 == 0 {
				w.findPrograms(pid)
			}
			select {
			case <-w.stop:
				return
			case <-ticker.C:
			}
		}
	}()
	return w
}

// peakMemory returns the most resident memory a process ever had, in KiB.
func peakMemory(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(status), "\nVmHWM:")
	value, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, _ := strconv.Atoi(value)
	return kib
}

// findPrograms holds the BPF programs of a process: then their run time can be
// read when it has ended.
func (w *watcher) findPrograms(pid int) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, id := range programsOf(pid) {
		if _, held := w.programs[id]; held {
			continue
		}
		if program, err := ebpf.NewProgramFromID(id); err == nil {
			w.programs[id] = program
		}
	}
}

// runTime returns how long the programs ran until now.
func (w *watcher) runTime() (total time.Duration) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	for _, program := range w.programs {
		if stats, err := program.Stats(); err == nil {
			total += stats.Runtime
		}
	}
	return total
}

// end returns what was seen.
func (w *watcher) end() cost {
	close(w.stop)
	<-w.done
	c := cost{memory: w.memory, bpf: w.runTime()}
	for _, program := range w.programs {
		program.Close()
	}
	return c
}

// countRunTime makes the kernel measure the run time of BPF programs.
func countRunTime(b *testing.B) {
	b.Helper()
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skipf("this kernel does not measure the run time of BPF programs: %v", err)
	}
	b.Cleanup(func() { stats.Close() })
}

// BenchmarkRecord measures what a whole profile of 30 s at 99 Hz takes, from start
// to exit, in per cent of one core.
func BenchmarkRecord(b *testing.B) {
	testsupport.RequireBPF(b)
	vm := benchload.Large.Start(b, 2)
	for _, p := range profilers(b, benchmarkTime) {
		b.Run(p.name, func(b *testing.B) {
			countRunTime(b)
			var user, system, bpf, memory, data []float64
			for b.Loop() {
				c := p.run(b, vm.PID)
				user = append(user, 100*c.user.Seconds()/benchmarkTime.Seconds())
				system = append(system, 100*c.system.Seconds()/benchmarkTime.Seconds())
				bpf = append(bpf, 100*c.bpf.Seconds()/benchmarkTime.Seconds())
				memory = append(memory, float64(c.memory)/1024)
				data = append(data, float64(c.data)/1024)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(user), "%user")
			b.ReportMetric(median(system), "%system")
			b.ReportMetric(median(bpf), "%bpf")
			b.ReportMetric(median(user)+median(system)+median(bpf), "%in-all")
			b.ReportMetric(slices.Max(memory), "MiB-resident")
			b.ReportMetric(median(data), "KiB-written")
		})
	}
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// BenchmarkTarget measures what being profiled takes from the target: its work per
// second while a profiler runs, from start to exit, by the mean of that right
// before and right after, as machines that are shared get faster and slower by
// more than what is looked for. The order is random. Six rounds take nine minutes.
func BenchmarkTarget(b *testing.B) {
	testsupport.RequireBPF(b)
	vm := benchload.Large.Start(b, 2)
	all := profilers(b, benchmarkTime)
	rate := func(f func()) float64 {
		before := benchload.Counted(b, vm)
		f()
		return benchload.Counted(b, vm).Since(before)
	}
	alone := func() float64 { return rate(func() { time.Sleep(aloneTime) }) }
	ratios := map[string][]float64{}
	for b.Loop() {
		before := alone()
		for _, i := range rand.Perm(len(all)) {
			profiled := rate(func() { all[i].run(b, vm.PID) })
			after := alone()
			ratio := profiled / ((before + after) / 2)
			ratios[all[i].name] = append(ratios[all[i].name], ratio)
			b.Logf("%s: %.3f (%.0f, and %.0f and %.0f without)", all[i].name, ratio, profiled, before, after)
			before = after
		}
	}
	b.ReportMetric(0, "ns/op")
	for name, values := range ratios {
		b.ReportMetric(median(values), name+"/nothing")
		b.ReportMetric(slices.Min(values), name+"/nothing-min")
		b.ReportMetric(slices.Max(values), name+"/nothing-max")
	}
}
