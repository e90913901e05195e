package main

import (
	"fmt"
	"math"
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
// benchmarkTime is how long each run profiles.
const benchmarkTime = 30 * time.Second

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

// start begins to profile a process. What the profiler says is in the file out.
func (p profiler) start(b *testing.B, pid int, directory string) (cmd *exec.Cmd, out string) {
	b.Helper()
	arguments := p.arguments(pid, directory)
	cmd = exec.Command(arguments[0], arguments[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	file, err := os.Create(filepath.Join(b.TempDir(), "out"))
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, file.Name()
}

// run profiles a process once.
func (p profiler) run(b *testing.B, pid int) cost {
	b.Helper()
	directory := b.TempDir()
	cmd, out := p.start(b, pid, directory)
	watched := watch(cmd.Process.Pid)
	err := cmd.Wait()
	c := watched.end()
	if err != nil {
		text, _ := os.ReadFile(out)
		b.Fatalf("%s: %v\n%s", cmd, err, text)
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

// targetSlot is for how long a profiler is at work, or rests.
const targetSlot = 50 * time.Millisecond

// BenchmarkTarget measures what being profiled takes from the target: its work per
// second while a profiler is at work, with that right before or after while its
// clocks rest and it is stopped, in random order. So all that it does falls on the
// time when it is at work; what it does each second whatever it sampled, twice
// over. Shared machines get faster and slower by more than what is looked for, but
// less so within a tenth of a second, and there are many pairs. What starting and
// ending takes is BenchmarkRecord's.
func BenchmarkTarget(b *testing.B) {
	testsupport.RequireBPF(b)
	vm := benchload.Large.Start(b, 2)
	for _, p := range profilers(b, time.Hour) {
		b.Run(p.name, func(b *testing.B) {
			process, clocks := p.goOn(b, vm.PID)
			rate := func(atWork bool) float64 {
				request, signal := uint(unix.PERF_EVENT_IOC_DISABLE), syscall.SIGSTOP
				if atWork {
					request, signal = unix.PERF_EVENT_IOC_ENABLE, syscall.SIGCONT
				}
				if err := process.Signal(signal); err != nil {
					b.Fatal(err)
				}
				for _, fd := range clocks {
					if err := unix.IoctlSetInt(fd, request, 0); err != nil {
						b.Fatal(err)
					}
				}
				before := benchload.Counted(b, vm)
				time.Sleep(targetSlot)
				return benchload.Counted(b, vm).Since(before)
			}
			var ratios []float64
			for b.Loop() {
				first := rand.IntN(2) == 0
				with, without := rate(first), rate(!first)
				if !first {
					with, without = without, with
				}
				ratios = append(ratios, with/without)
			}
			center, uncertain := meanLog(ratios)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(math.Exp(center), "with/without")
			b.ReportMetric(1.96*uncertain, "±95%")
		})
	}
}

// meanLog returns the mean of the logarithms and its standard error.
func meanLog(ratios []float64) (mean, uncertain float64) {
	n := float64(len(ratios))
	for _, r := range ratios {
		mean += math.Log(r) / n
	}
	for _, r := range ratios {
		uncertain += (math.Log(r) - mean) * (math.Log(r) - mean)
	}
	return mean, math.Sqrt(uncertain / max(n-1, 1) / n)
}

// goOn starts a profiler that goes on until the benchmark ends. Its perf events are
// held by this process as well: so they can be turned off and on. It may be stopped
// when the benchmark ends.
func (p profiler) goOn(b *testing.B, pid int) (process *os.Process, clocks []int) {
	b.Helper()
	cmd, out := p.start(b, pid, b.TempDir())
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	time.Sleep(3 * time.Second) // it attaches and samples
	handle, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(handle)
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range names {
		if link, _ := os.Readlink(name); link != "anon_inode:[perf_event]" {
			continue
		}
		number, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			b.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(handle, number, 0)
		if err != nil {
			b.Skipf("this kernel does not let the events of another process be held: %v", err)
		}
		b.Cleanup(func() { unix.Close(fd) })
		clocks = append(clocks, fd)
	}
	if len(clocks) == 0 {
		text, _ := os.ReadFile(out)
		b.Fatalf("%s samples nothing:\n%s", p.name, text)
	}
	return cmd.Process, clocks
}
