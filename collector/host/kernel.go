package host

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// release is a kernel's version.
type release struct {
	text         string
	major, minor int
}

// minimum is the oldest kernel the programs are made and tested for.
var minimum = release{major: 5, minor: 4}

func (r release) atLeast(major, minor int) bool {
	return r.major > major || r.major == major && r.minor >= minor
}

// Release returns the release of the running kernel, as `uname -r` does.
func Release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func runningKernel() release { return parseRelease(Release()) }

// parseRelease reads the first two numbers; they are 0 if there are none.
func parseRelease(text string) release {
	r := release{text: text}
	numbers := strings.FieldsFunc(text, func(c rune) bool { return c < '0' || c > '9' })
	if len(numbers) >= 2 {
		r.major, _ = strconv.Atoi(numbers[0])
		r.minor, _ = strconv.Atoi(numbers[1])
	}
	return r
}

func (r release) check() Check {
	c := Check{Name: "kernel", Detail: "Linux " + r.text}
	if !r.atLeast(minimum.major, minimum.minor) {
		c.Status = Failed
		c.Remedy = fmt.Sprintf("Linux %d.%d or later is needed", minimum.major, minimum.minor)
	}
	return c
}

// supported are the architectures there is a sampling program for.
var supported = map[string]bool{"amd64": true, "arm64": true}

func architecture() Check {
	c := Check{Name: "architecture", Detail: runtime.GOARCH}
	if !supported[runtime.GOARCH] {
		c.Status = Failed
		c.Remedy = "amd64 or arm64 is needed"
	}
	return c
}

// initialPIDNamespace is the inode of the host's pid namespace
// (PROC_PID_INIT_INO, include/linux/proc_ns.h).
const initialPIDNamespace = "pid:[4026531836]"

// pidNamespace: the kernel side knows threads by the host's numbers only.
func pidNamespace(proc string) Check {
	c := Check{Name: "pid namespace", Detail: "the host's"}
	name, err := os.Readlink(filepath.Join(proc, "self/ns/pid"))
	switch {
	case err != nil:
		c.Status, c.Detail = Failed, err.Error()
		c.Remedy = "mount /proc"
	case name != initialPIDNamespace:
		c.Status, c.Detail = Failed, "a container's: the numbers of processes differ from those the kernel samples"
		c.Remedy = "run on the host, or in a container with the host's pid namespace (docker run --pid=host, hostPID: true)"
	}
	return c
}

// lockdown: a kernel locked down for confidentiality lets no program read memory.
func lockdown(sys string) Check {
	c := Check{Name: "lockdown", Detail: "none"}
	content, err := os.ReadFile(filepath.Join(sys, "kernel/security/lockdown"))
	if err != nil {
		return c
	}
	_, after, _ := strings.Cut(string(content), "[")
	mode, _, _ := strings.Cut(after, "]")
	if mode != "" {
		c.Detail = mode
	}
	if mode == "confidentiality" {
		c.Status = Failed
		c.Remedy = "boot with lockdown=integrity: in this mode no BPF program may read memory"
	}
	return c
}

// btf is not needed; it is told for those who ask first for it.
func btf(sys string) Check {
	c := Check{Name: "BTF", Detail: "present, not needed"}
	if _, err := os.Stat(filepath.Join(sys, "kernel/btf/vmlinux")); err != nil {
		c.Status, c.Detail = Note, "absent, not needed"
	}
	return c
}

// sampleRate: above this rate the kernel throttles sampling (kernel/events/core.c, max_samples_per_tick).
func sampleRate(proc string) Check {
	c := Check{Name: "sampling rate"}
	rate, err := readNumber(filepath.Join(proc, "sys/kernel/perf_event_max_sample_rate"))
	if err != nil {
		c.Status, c.Detail = Failed, err.Error()
		c.Remedy = "a kernel with CONFIG_PERF_EVENTS and a mounted /proc are needed"
		return c
	}
	c.Detail = fmt.Sprintf("up to %d Hz", rate)
	const usual, highest = 99, 4999
	if rate < highest {
		c.Status = Note
		c.Remedy = "for higher frequencies: sysctl kernel.perf_event_max_sample_rate=100000"
	}
	if rate < usual {
		c.Status = Failed
	}
	return c
}

func readNumber(file string) (int, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return n, nil
}
