package sampler

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// perfEvents are the sampling clocks: one cpu-clock event per CPU, with the
// sampling program attached. cpu-clock is a kernel timer; it needs no hardware
// counter and so exists in every VM and container host.
type perfEvents struct {
	program int
	period  uint64
	fds     map[int]int // by CPU
	online  *os.File    // the kernel's list of CPUs that are; nil until it is read
}

func newPerfEvents(program, frequency int) *perfEvents {
	return &perfEvents{program: program, period: uint64(1e9) / uint64(frequency), fds: map[int]int{}}
}

// update opens events on CPUs that came online and closes those of CPUs that
// went away. It reports whether a CPU came.
func (e *perfEvents) update() (came bool, err error) {
	online, err := e.onlineCPUs()
	if err != nil {
		return false, err
	}
	now := map[int]bool{}
	for _, cpu := range online {
		now[cpu] = true
		if _, ok := e.fds[cpu]; ok {
			continue
		}
		fd, err := e.open(cpu)
		if err == unix.ENODEV { // gone again
			continue
		}
		if err != nil {
			return came, err
		}
		e.fds[cpu] = fd
		came = true
	}
	for cpu, fd := range e.fds {
		if !now[cpu] {
			unix.Close(fd)
			delete(e.fds, cpu)
		}
	}
	return came, nil
}

// open starts the clock of one CPU. The ioctl attaches the program on every
// kernel from 4.9 on; the link API would need 5.15.
func (e *perfEvents) open(cpu int) (int, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   unix.PERF_ATTR_SIZE_VER1,
		Sample: e.period,
		Bits:   unix.PerfBitDisabled | unix.PerfBitExcludeIdle,
	}
	fd, err := unix.PerfEventOpen(&attr, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err == unix.ENODEV {
		return -1, err
	}
	if err != nil {
		return -1, fmt.Errorf("opening the cpu-clock event of CPU %d: %w", cpu, err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_BPF, e.program); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("attaching the sampling program to CPU %d: %w", cpu, err)
	}
	if err := unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_ENABLE, 0); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("starting the cpu-clock event of CPU %d: %w", cpu, err)
	}
	return fd, nil
}

func (e *perfEvents) close() {
	if e.online != nil {
		e.online.Close()
		e.online = nil
	}
	for cpu, fd := range e.fds {
		unix.Close(fd)
		delete(e.fds, cpu)
	}
}

// onlineCPUs returns the numbers of the CPUs that are online. The file stays open:
// it is read again and again.
func (e *perfEvents) onlineCPUs() (_ []int, err error) {
	if e.online == nil {
		if e.online, err = os.Open("/sys/devices/system/cpu/online"); err != nil {
			return nil, fmt.Errorf("listing the CPUs: %w", err)
		}
	}
	text := make([]byte, maxCPUList)
	n, err := e.online.ReadAt(text, 0)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("listing the CPUs: %w", err)
	}
	return parseCPUList(strings.TrimSpace(string(text[:n])))
}

// maxCPUList is the longest list of CPUs, in bytes: files in sysfs have a page.
const maxCPUList = 4 << 10

// parseCPUList parses the kernel's list format: "0-3,5".
func parseCPUList(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if err == nil && isRange {
			to, err = strconv.Atoi(last)
		}
		if err != nil || from < 0 || to < from || to > 1<<16 {
			return nil, fmt.Errorf("CPU list %q is not of the form 0-3,5", list)
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
