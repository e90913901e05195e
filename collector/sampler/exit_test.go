package sampler

import (
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/internal/testsupport"
)

// The end of a process is told, at once and whether or not its parent has waited
// for it; until that has, its times are the last ones.
func TestWatchExit(t *testing.T) {
	fd, err := unix.PidfdOpen(unix.Getpid(), 0)
	testsupport.RequireKernel(t, "pidfd_open", err)
	unix.Close(fd)
	child := exec.Command("sh", "-c", "read line; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; read line")
	input, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	told, stopped := make(chan struct{}), make(chan struct{})
	stop, ok := watchExit(child.Process.Pid, func() { close(told) })
	defer stop()
	unwatch, alsoOK := watchExit(child.Process.Pid, func() { close(stopped) })
	unwatch()
	if !ok || !alsoOK {
		t.Fatal("it will not be told")
	}
	process, err := procfs.NewProc(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	before, err := readProcessTimes(process)
	if err != nil || before.ended {
		t.Fatalf("%+v, %v", before, err)
	}
	select {
	case <-told:
		t.Fatal("told before it ended")
	default:
	}
	input.Write([]byte("\n\n"))
	select {
	case <-told:
	case <-time.After(time.Minute):
		t.Fatal("not told")
	}
	after, err := readProcessTimes(process)
	if err != nil || !after.ended || after.started != before.started || after.cpu <= before.cpu {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	select {
	case <-stopped:
		t.Error("told after it was stopped")
	default:
	}
}
