package testsupport

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

// markVariable is in the environment of every VM and so of all it starts. It
// finds programs of a VM that left its process group, as those of ports do,
// or that outlived it.
const markVariable = "BEAMPROF_TEST_VM"

// marked returns the processes that carry a mark and are no zombies.
func marked(mark string) ([]int, error) {
	processes, err := procfs.AllProcs()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, p := range processes {
		environment, err := p.Environ()
		if err != nil || !slices.Contains(environment, markVariable+"="+mark) {
			continue // gone, a zombie, or another user's
		}
		found = append(found, p.PID)
	}
	return found, nil
}

// killMarked kills processes that carry a mark until none is left.
func killMarked(mark string, timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); ; time.Sleep(5 * time.Millisecond) {
		left, err := marked(mark)
		if err != nil || len(left) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %d are still there", left)
		}
		for _, pid := range left {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("killing %d: %w", pid, err)
			}
		}
	}
}
