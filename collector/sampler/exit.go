package sampler

import (
	"os"

	"golang.org/x/sys/unix"
)

// watchExit calls f, from another goroutine, when the process pid has ended, unless
// stop was called before. Nothing wakes up meanwhile. It reports false where the
// kernel does not tell (pidfd_open(2), since Linux 5.3).
func watchExit(pid int, f func()) (stop func(), ok bool) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return func() {}, false
	}
	_ = unix.SetNonblock(fd, true) // so that the runtime waits for it, and no thread
	file := os.NewFile(uintptr(fd), "pidfd")
	stop = func() { file.Close() }
	connection, err := file.SyscallConn()
	if err != nil {
		return stop, false
	}
	go func() {
		ended := false
		_ = connection.Read(func(fd uintptr) bool { // fails when it is stopped
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			ended = n > 0 && err == nil
			return ended
		})
		if ended {
			f()
		}
	}()
	return stop, true
}
