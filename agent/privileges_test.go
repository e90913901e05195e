package agent

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// capabilityNumbers are those that the package's files name.
var capabilityNumbers = map[string]int{
	"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK, "CAP_NET_RAW": unix.CAP_NET_RAW,
	"CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_SYSLOG": unix.CAP_SYSLOG,
	"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE,
}

// capabilities returns what the lines of a file that a pattern fits name.
func capabilities(t *testing.T, path, line string) (numbers []int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile(line).FindAllString(string(text), -1) {
		for _, name := range regexp.MustCompile(`CAP_[A-Z_]+`).FindAllString(match, -1) {
			number, ok := capabilityNumbers[name]
			if !ok {
				t.Errorf("%s: %s is not kept", path, name)
			}
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// TestCapabilities: what the unit and its drop-in grant, what the agent keeps
// and what docs/agent.md says are the same.
func TestCapabilities(t *testing.T) {
	kept := slices.Sorted(slices.Values(keptCapabilities))
	granted := capabilities(t, "../packaging/beamprof-agent.service", `(?m)^CapabilityBoundingSet=.*$`)
	before58 := capabilities(t, "../packaging/sys-admin.conf", `(?m)^CapabilityBoundingSet=.*$`)
	if all := slices.Sorted(slices.Values(append(slices.Clone(granted), before58...))); !slices.Equal(all, kept) {
		t.Errorf("the unit and its drop-in grant %v, the agent keeps %v", all, kept)
	}
	if documented := capabilities(t, "../docs/agent.md", `(?m)^\| CAP_.*\|`); !slices.Equal(documented, kept) {
		t.Errorf("docs/agent.md says %v, the agent keeps %v", documented, kept)
	}
	if all := slices.Sorted(maps.Values(capabilityNumbers)); !slices.Equal(all, kept) {
		t.Errorf("this test knows %v, the agent keeps %v", all, kept)
	}
	// A packet socket needs both.
	unit, err := os.ReadFile("../packaging/beamprof-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(granted, unix.CAP_NET_RAW) != strings.Contains(string(unit), " AF_PACKET") {
		t.Error("the unit grants one of CAP_NET_RAW and AF_PACKET")
	}
}
