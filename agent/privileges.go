package agent

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// keptCapabilities are what the agent needs as long as it runs, since VMs may
// come at any time: programs and perf events (CAP_SYS_ADMIN before Linux 5.8,
// and to enter a container's network namespace), the memory and the files of
// other users' processes, kernel symbols, output buffers, what clients send,
// the limit on locked memory before Linux 5.11.
var keptCapabilities = []int{
	unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYSLOG, unix.CAP_IPC_LOCK, unix.CAP_NET_RAW, unix.CAP_SYS_RESOURCE,
}

// dropPrivileges gives up all other capabilities in all threads, and forbids to
// gain any by executing a program.
func dropPrivileges() error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	var kept [2]uint32
	for _, c := range keptCapabilities {
		kept[c/32] |= 1 << (c % 32)
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if kept[c/32]&(1<<(c%32)) != 0 {
			continue
		}
		// Without CAP_SETPCAP the bounding set stays; nothing can be executed that would gain from it.
		if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the capabilities: %w", err)
	}
	for i := range data {
		data[i].Effective &= kept[i]
		data[i].Permitted &= kept[i]
		data[i].Inheritable = 0
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}

// allThreads makes a system call in each thread of this process: capabilities
// are a thread's own.
func allThreads(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}
