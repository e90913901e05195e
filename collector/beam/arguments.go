package beam

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// How long schedulers spin before they sleep, unless the flag +sbwt says
// otherwise (erl_process.c, 23 to 27), and what it can say.
const defaultBusyWait = "medium"

var busyWaits = []string{"none", "very_short", "short", defaultBusyWait, "long", "very_long"}

// maxArguments bounds how much of a command line is read, in bytes.
const maxArguments = 64 << 10

// readBusyWait returns the busy wait threshold that a VM was started with, empty
// if that cannot be told. The command line tells: erlexec has put there what came
// from files and from the environment, and nothing changes it later.
func readBusyWait(pid int) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	line, err := io.ReadAll(io.LimitReader(f, maxArguments))
	if err != nil || len(line) == 0 {
		return ""
	}
	return busyWaitOf(strings.Split(string(bytes.TrimSuffix(line, []byte{0})), "\x00"))
}

// busyWaitOf finds -sbwt VALUE or -sbwtVALUE among the emulator's own arguments,
// which end with the first --; the last one counts (erl_init.c).
func busyWaitOf(arguments []string) string {
	value := defaultBusyWait
	for i, argument := range arguments {
		if argument == "--" {
			break
		}
		given, found := strings.CutPrefix(argument, "-sbwt")
		if found && given == "" && i+1 < len(arguments) {
			given = arguments[i+1]
		}
		if found && slices.Contains(busyWaits, given) { // -sbwtdcpu and -sbwtdio are others
			value = given
		}
	}
	return value
}
