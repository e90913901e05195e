package beam

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam/memory"
)

// thread is the role of an operating system thread.
type thread struct {
	kind   collector.ThreadKind
	number int
}

// osThread is a thread as the kernel shows it.
type osThread struct {
	tid   int    // in the pid namespace that /proc shows
	inner int    // in the process's own pid namespace, which is what its C library knows
	comm  string // name
	start uint64 // when it was started, in ticks since the machine was
}

// ThreadKind returns the role of the thread tid, whose name is comm, and its
// number: of a scheduler from 1, else as in its name, 0 if it has none.
//
// Schedulers are known from the VM's tables. The VM keeps no table of its other
// threads that can be found from outside, so those are known by their names,
// but only if they were there at attach: the VM starts all its threads before
// it runs Erlang code, and a thread of a library, which inherits the name of
// the thread that started it, is younger than the one the VM gave that name.
func (t *Target) ThreadKind(tid int, comm string) (kind collector.ThreadKind, number int) {
	if role, ok := t.threads[tid]; ok && (role.kind <= collector.ThreadDirtyIO || role == roleOf(comm) || tid == t.PID) {
		return role.kind, role.number
	}
	return collector.ThreadNative, 0
}

// threadNames are the names the VM gives its threads other than schedulers, cut
// to 15 bytes by the kernel: in OTP 23 to 25 (erl_process.c, erl_async.c,
// erl_trace.c, sys/unix/sys.c), and as they are from OTP 26 on.
var threadNames = []struct {
	pattern *regexp.Regexp
	kind    collector.ThreadKind
}{
	{regexp.MustCompile(`^(?:(\d+)_aux|erts_aux_(\d+))$`), collector.ThreadAux},
	{regexp.MustCompile(`^(?:(\d+)_poller|erts_poll_(\d+))$`), collector.ThreadPoller},
	{regexp.MustCompile(`^(?:erts_)?async_(\d+)$`), collector.ThreadAsync},
	{regexp.MustCompile(`^(?:sys_sig_dispatc|sys_msg_dispatc|erts_ssig_disp|erts_smsg_disp)$`), collector.ThreadSignal},
	{regexp.MustCompile(`^(?:runq_supervisor|erts_runq_sup)$`), collector.ThreadAux},
}

// roleOf returns the role that a thread's name stands for.
func roleOf(comm string) thread {
	for _, n := range threadNames {
		groups := n.pattern.FindStringSubmatch(comm)
		if groups == nil {
			continue
		}
		number, _ := strconv.Atoi(strings.Join(groups[1:], ""))
		return thread{n.kind, number}
	}
	return thread{}
}

// findThreads maps every scheduler to its thread and tells the roles of the others.
func (t *Target) findThreads() error {
	structures, err := readThreadStructures(t.Memory, t.Schedulers)
	if err != nil {
		return err
	}
	// After the structures: a thread that is in them is in this list.
	list, err := osThreads(t.PID)
	if err != nil {
		return err
	}
	tids, err := matchThreads(structures, list)
	if err != nil {
		return err
	}
	t.threads = map[int]thread{}
	for i := range t.Schedulers {
		t.Schedulers[i].TID = tids[i]
		t.threads[tids[i]] = thread{t.Schedulers[i].Kind, t.Schedulers[i].Number}
	}
	t.nameThreads(list)
	return nil
}

// nameThreads tells the roles of threads that are no schedulers by their names.
func (t *Target) nameThreads(list []osThread) {
	// The main thread waits for signals once the VM is up (erts_sys_main_thread).
	t.threads[t.PID] = thread{kind: collector.ThreadSignal}
	slices.SortFunc(list, func(a, b osThread) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.tid, b.tid))
	})
	taken := map[string]bool{}
	for _, o := range list {
		if _, known := t.threads[o.tid]; known || taken[o.comm] {
			continue
		}
		if role := roleOf(o.comm); role.kind != collector.ThreadNative {
			t.threads[o.tid], taken[o.comm] = role, true
		}
	}
}

// structureSize is how much of the C library's structure of a thread is
// searched for the thread's id: it is at 0x2d0 of struct pthread in glibc 2.36,
// and at 0x30 or 0x38 in musl 1.1 and 1.2.
const structureSize = 0x800

// readThreadStructures reads the beginning of each scheduler's struct pthread,
// or as much as is readable.
func readThreadStructures(m memory.Reader, schedulers []Scheduler) ([][]byte, error) {
	all := make([][]byte, len(schedulers))
	for i, s := range schedulers {
		for size := structureSize; ; size /= 2 {
			all[i] = make([]byte, size)
			err := m.Read(all[i], s.pthread)
			if err == nil {
				break
			}
			if size < 64 {
				return nil, fmt.Errorf("%w: thread of %v %d: %w", ErrUnsupported, s.Kind, s.Number, err)
			}
		}
	}
	return all, nil
}

// matchThreads returns the tid of each structure's thread. The field that
// holds it is where all structures have different numbers that are all ids of
// threads of the process; if there are several, they must say the same.
func matchThreads(structures [][]byte, list []osThread) ([]int, error) {
	tids := make(map[uint32]int, len(list))
	for _, o := range list {
		tids[uint32(o.inner)] = o.tid
	}
	var match []int
	for offset := 0; offset+4 <= structureSize; offset += 4 {
		candidate := make([]int, 0, len(structures))
		for _, s := range structures {
			if offset+4 > len(s) {
				break
			}
			tid, ok := tids[binary.NativeEndian.Uint32(s[offset:])]
			if !ok || slices.Contains(candidate, tid) {
				break
			}
			candidate = append(candidate, tid)
		}
		if len(candidate) < len(structures) || slices.Equal(candidate, match) {
			continue
		}
		if match != nil {
			return nil, fmt.Errorf("%w: two fields of the C library's thread structure could be the thread id", ErrUnsupported)
		}
		match = candidate
	}
	if match == nil {
		return nil, fmt.Errorf("%w: the schedulers' thread ids are not in the C library's thread structures", ErrUnsupported)
	}
	return match, nil
}

// osThreads lists the threads of a process.
func osThreads(pid int) ([]osThread, error) {
	directory := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, fmt.Errorf("list the threads of process %d: %w", pid, err)
	}
	list := make([]osThread, 0, len(entries))
	for _, entry := range entries {
		tid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		o := osThread{tid: tid, inner: tid}
		err = o.read(directory + "/" + entry.Name())
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read the state of thread %d: %w", tid, err)
		}
		list = append(list, o)
	}
	return list, nil
}

// read takes what is needed from /proc/PID/task/TID.
func (o *osThread) read(directory string) error {
	status, err := os.ReadFile(directory + "/status")
	if err != nil {
		return err
	}
	o.parseStatus(string(status))
	stat, err := os.ReadFile(directory + "/stat")
	if err != nil {
		return err
	}
	o.parseStat(string(stat))
	return nil
}

// parseStat takes the time of the start from the text of /proc/PID/task/TID/stat
// (proc_pid_stat(5)): the 22nd field, the 20th after the name in parentheses.
func (o *osThread) parseStat(text string) {
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) >= 20 {
		o.start, _ = strconv.ParseUint(fields[19], 10, 64)
	}
}

// ticksPerSecond is USER_HZ, the unit of times in /proc/PID/stat on all
// architectures of Linux that matter here.
const ticksPerSecond = 100

// processAge returns how long ago a process was started.
func processAge(pid int) (time.Duration, error) {
	var o osThread
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	o.parseStat(string(stat))
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	return time.Duration(now.Nano()) - time.Duration(o.start)*time.Second/ticksPerSecond, nil
}

// parseStatus takes the name and the innermost pid namespace's id from the text
// of /proc/PID/task/TID/status (proc_pid_status(5)). NSpid is there since Linux 4.1.
func (o *osThread) parseStatus(text string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Name":
			o.comm = value
		case "NSpid":
			ids := strings.Fields(value)
			if len(ids) == 0 {
				return
			}
			if id, err := strconv.Atoi(ids[len(ids)-1]); err == nil {
				o.inner = id
			}
			return
		}
	}
}
