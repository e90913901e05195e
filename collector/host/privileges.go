package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// privileges are the effective capabilities of this process; bit n is capability n.
type privileges uint64

func (p privileges) has(capability int) bool { return p>>capability&1 == 1 }

// currentPrivileges returns those of this thread; none if they can't be read.
func currentPrivileges() privileges {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0
	}
	return privileges(data[1].Effective)<<32 | privileges(data[0].Effective)
}

// missing returns the capabilities profiling needs and this process does not
// have. CAP_BPF and CAP_PERFMON are parts of CAP_SYS_ADMIN since Linux 5.8.
func (p privileges) missing(kernel release) []string {
	var missing []string
	switch {
	case p.has(unix.CAP_SYS_ADMIN):
	case !kernel.atLeast(5, 8):
		missing = append(missing, "CAP_SYS_ADMIN")
	default:
		if !p.has(unix.CAP_BPF) {
			missing = append(missing, "CAP_BPF")
		}
		if !p.has(unix.CAP_PERFMON) {
			missing = append(missing, "CAP_PERFMON")
		}
	}
	if !p.has(unix.CAP_SYS_PTRACE) {
		missing = append(missing, "CAP_SYS_PTRACE")
	}
	// Before 5.11 BPF maps are locked memory.
	if !kernel.atLeast(5, 11) && !p.has(unix.CAP_SYS_RESOURCE) && !memoryLockUnlimited() {
		missing = append(missing, "CAP_SYS_RESOURCE (or an unlimited RLIMIT_MEMLOCK)")
	}
	return missing
}

func memoryLockUnlimited() bool {
	var limit unix.Rlimit
	return unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Max == unix.RLIM_INFINITY
}

func capabilities(kernel release, p privileges) Check {
	missing := p.missing(kernel)
	if len(missing) == 0 {
		return Check{Name: "capabilities", Detail: "sufficient"}
	}
	return Check{
		Name: "capabilities", Status: Denied, Detail: strings.Join(missing, ", ") + " missing",
		Remedy: "run as root (sudo), or give the program these capabilities",
	}
}

// paranoid: the sysctl binds only those without privileges.
func paranoid(proc string, p privileges) Check {
	c := Check{Name: "perf_event_paranoid"}
	content, err := os.ReadFile(filepath.Join(proc, "sys/kernel/perf_event_paranoid"))
	if err != nil {
		c.Status, c.Detail = Failed, err.Error()
		c.Remedy = "a kernel with CONFIG_PERF_EVENTS and a mounted /proc are needed"
		return c
	}
	c.Detail = strings.TrimSpace(string(content))
	if p.has(unix.CAP_SYS_ADMIN) || p.has(unix.CAP_PERFMON) {
		c.Detail = fmt.Sprintf("%s, does not bind the privileged", c.Detail)
	}
	return c
}
