package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/beamprof/beamprof/internal/benchload"
	"github.com/beamprof/beamprof/internal/testsupport"
)

// How long an agent runs before it is measured, and for how long it is.
const (
	agentSettles  = 20 * time.Second
	agentMeasured = 2 * time.Minute
)

// BenchmarkAgent measures what an agent with the default configuration takes for
// one VM with two busy schedulers and the code of a large application, in per
// cent of one core, once it has begun: windows, profiles, a sink, metrics.
func BenchmarkAgent(b *testing.B) { benchmarkAgent(b, agentMeasured) }

// closing is how many connections BenchmarkClosingSockets closes a second.
const closing = 500

// BenchmarkClosingSockets measures the same while other processes in the VM's
// network namespace open and close connections, which are none of the VM's.
func BenchmarkClosingSockets(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			connection.Close()
		}
	}()
	ctx, stop := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	defer ended.Wait()
	defer stop()
	ended.Go(func() {
		ticks := time.NewTicker(time.Second / closing)
		defer ticks.Stop()
		for ctx.Err() == nil {
			<-ticks.C
			connection, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				b.Error(err)
				return
			}
			connection.Read(make([]byte, 1)) // until it is closed
			connection.Close()
		}
	})
	benchmarkAgent(b, agentMeasured/2)
}

func benchmarkAgent(b *testing.B, measured time.Duration) {
	testsupport.RequireBPF(b)
	vm := benchload.Large.Start(b, 2)
	program := profilers(b, benchmarkTime)[0].arguments(vm.PID, "")[0]
	countRunTime(b)
	for range b.N {
		dir := b.TempDir()
		config := filepath.Join(dir, "agent.yaml")
		text := fmt.Sprintf("targets: {commands: ['.*%s.*']}\nspool: %s/spool\nhttp: {listen: '127.0.0.1:0'}\nsinks: [{name: local, type: directory, directory: {path: %s/profiles}}]\n", regexp.QuoteMeta(vm.Dir), dir, dir)
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(program, "agent", "--config", config)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		var log strings.Builder
		cmd.Stderr = &log
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		watched := watch(cmd.Process.Pid)
		time.Sleep(agentSettles)
		before := ownTime(b, cmd.Process.Pid)
		bpfBefore := watched.runTime()
		time.Sleep(measured)
		user := ownTime(b, cmd.Process.Pid) - before
		bpf := watched.runTime() - bpfBefore
		resident := residentNow(b, cmd.Process.Pid)
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		c := watched.end()
		if files, _ := filepath.Glob(filepath.Join(dir, "profiles", "*")); len(files) == 0 {
			b.Fatalf("no profile was written: %s", log.String())
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(100*user/measured.Seconds(), "%own")
		b.ReportMetric(100*bpf.Seconds()/measured.Seconds(), "%bpf")
		b.ReportMetric(float64(resident)/(1<<20), "MiB-resident")
		b.ReportMetric(float64(c.memory)/1024, "MiB-peak")
	}
}

// ownTime returns the CPU time of a process, user and system, in seconds.
func ownTime(b *testing.B, pid int) float64 {
	b.Helper()
	return stat(b, pid).CPUTime()
}

// residentNow returns the resident memory of a process, in bytes.
func residentNow(b *testing.B, pid int) int { return stat(b, pid).ResidentMemory() }

func stat(b *testing.B, pid int) procfs.ProcStat {
	b.Helper()
	process, err := procfs.NewProc(pid)
	if err == nil {
		if s, err := process.Stat(); err == nil {
			return s
		}
	}
	b.Fatalf("process %s has ended", strconv.Itoa(pid))
	return procfs.ProcStat{}
}
