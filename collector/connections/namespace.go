package connections

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector/sockets"
)

// inNamespace calls f in a thread that is in the network namespace of a process.
// What f opens stays there.
func inNamespace(pid int, f func() error) error {
	theirs, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer theirs.Close()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if is, err := sockets.IsOurs(theirs); err == nil && is {
			done <- f() // without the privilege to enter another one
			runtime.UnlockOSThread()
			return
		}
		done <- inThread(theirs, f)
	}()
	return <-done
}

// inThread moves this thread, which is locked, to a namespace and back. If there
// is no way back it stays locked, and ends with its goroutine.
func inThread(theirs *os.File, f func() error) error {
	ours, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	defer ours.Close()
	if err := unix.Setns(int(theirs.Fd()), unix.CLONE_NEWNET); err != nil {
		return os.NewSyscallError("setns", err)
	}
	err = f()
	if back := unix.Setns(int(ours.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, os.NewSyscallError("setns", back))
	}
	runtime.UnlockOSThread()
	return err
}

// sameNamespace tells whether two processes are in one network namespace.
func sameNamespace(a, b int) (bool, error) {
	one, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", a))
	if err != nil {
		return false, err
	}
	other, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", b))
	return os.SameFile(one, other), err
}
