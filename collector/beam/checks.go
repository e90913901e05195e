package beam

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/beamprof/beamprof/collector"
	"github.com/beamprof/beamprof/collector/beam/memory"
)

// Check is the result of one comparison of the chosen layout with the VM.
type Check struct {
	Name   string // "process table"
	OK     bool
	Detail string // figures: "51 of 51 processes are in the slot of their pid"
	Remedy string // what to do if it is not ok
}

// Checks returns what Attach found when it compared the layout with the VM, in
// a fixed order. All are ok: Attach refuses a VM of which one is not.
func (t *Target) Checks() []Check { return t.checks }

const remedy = "this emulator was built in a way that is not known yet: report its origin and this check"

// runChecks compares the layout with the VM: every kind of data that is read
// later is read here and must agree with something else the VM knows. It
// returns all checks and, if one is not ok, an error that wraps ErrUnsupported.
func (t *Target) runChecks() ([]Check, error) {
	checks := []Check{t.checkSizes(), t.checkAtoms(), t.checkBIFs(), t.checkCode(), t.checkSchedulers(), t.checkThreads()}
	ofProcesses, err := t.checkProcesses()
	if err != nil {
		return nil, err
	}
	checks = append(checks, ofProcesses...)
	failed, first := 0, 0
	for i := range checks {
		if checks[i].OK {
			continue
		}
		checks[i].Remedy = remedy
		if failed++; failed == 1 {
			first = i
		}
	}
	if failed > 0 {
		return checks, fmt.Errorf("%w: %d of %d checks of the layout fail, first that of %s: %s: %s",
			ErrUnsupported, failed, len(checks), checks[first].Name, checks[first].Detail, remedy)
	}
	return checks, nil
}

// checkSizes compares structures with the sizes of variables of their types.
func (t *Target) checkSizes() Check {
	c := Check{Name: "structure sizes", OK: true}
	var details []string
	for _, v := range []struct {
		variable string
		size     Offset
	}{
		{"erts_proc", t.Layout.Table.Size},
		{"erts_atom_table", t.Layout.AtomTable.Size},
		{"erts_invalid_process", t.Layout.Process.Size},
	} {
		s, ok := t.image.lookup(v.variable)
		if !ok {
			continue // the tables themselves were found by name, so only the last can be missing
		}
		c.OK = c.OK && s.size == uint64(v.size)
		details = append(details, fmt.Sprintf("%s has %d bytes, %d expected", v.variable, s.size, v.size))
	}
	c.Detail = strings.Join(details, "; ")
	return c
}

// checkedAtoms are atoms that every VM has.
var checkedAtoms = []string{"true", "false", "ok", "error", "undefined", "init", "erlang", "badarg", "normal", "nonode@nohost", ""}

// checkAtoms looks atoms up by their text and by their index.
func (t *Target) checkAtoms() Check {
	found := 0
	for _, text := range checkedAtoms {
		term, ok := t.AtomNamed(text)
		if !ok {
			continue
		}
		if back, err := t.atoms.read(term >> atomShift); err == nil && back == text {
			found++
		}
	}
	return Check{
		Name:   "atoms",
		OK:     found == len(checkedAtoms),
		Detail: fmt.Sprintf("%d of %d well-known atoms found by text and by index", found, len(checkedAtoms)),
	}
}

func (t *Target) checkBIFs() Check {
	_, found := t.AtomNamed("garbage_collect")
	return Check{
		Name:   "built-in functions",
		OK:     found && len(t.bifs) > 0,
		Detail: fmt.Sprintf("%d C functions with the names of built-in functions", len(t.bifs)),
	}
}

// checkCode compares the JIT's list with the VM's own variables.
func (t *Target) checkCode() Check {
	entries, ranges, lines := t.Code.Stats()
	c := Check{Name: "code", OK: ranges > 0 && t.NormalExit != 0}
	c.Detail = fmt.Sprintf("%d modules, %d functions, %d lines", entries, ranges, lines)
	v := variables{image: t.image, memory: t.Memory}
	exit, layout := v.word("beam_normal_exit"), v.number("erts_frame_layout")
	if v.err == nil && (exit != t.NormalExit || layout != uint32(t.FrameLayout)) {
		c.OK = false
		c.Detail += fmt.Sprintf("; the stack's root is %#x with frame layout %d, but the VM says %#x and %d", t.NormalExit, t.FrameLayout, exit, layout)
	}
	return c
}

// checkSchedulers reports what readSchedulers has checked, and that what runs
// on schedulers and ends there are processes, and what stands in for them in match
// specifications is one that is in no table.
func (t *Target) checkSchedulers() Check {
	l := &t.Layout.Scheduler
	counts := map[collector.ThreadKind]int{}
	running, right := 0, 0
	for _, s := range t.Schedulers {
		counts[s.Kind]++
		current, runs := t.pidOf(s, l.CurrentProcess)
		ended, ends := t.pidOf(s, l.FreeProcess)
		made, standsIn := t.pidOf(s, l.MatchProcess)
		if current != 0 {
			running++
		}
		if runs && ends && standsIn && ended != invalidPID && (made == 0 || made == invalidPID) {
			right++
		}
	}
	return Check{
		Name: "schedulers",
		OK:   right == len(t.Schedulers),
		Detail: fmt.Sprintf("%d normal, %d dirty CPU, %d dirty I/O have the type and number expected; on %d of %d what runs, ends or stands in for others is a process; %d run one",
			counts[collector.ThreadScheduler], counts[collector.ThreadDirtyCPU], counts[collector.ThreadDirtyIO], right, len(t.Schedulers), running),
	}
}

// pidOf returns the pid of the process that a scheduler refers to at an offset, 0 if
// it refers to none. ok is false if it does not seem to be a process: it may end and
// be freed before we look at it, so it is looked at again.
func (t *Target) pidOf(s Scheduler, at Offset) (pid uint64, ok bool) {
	for range checkRounds {
		addr, err := memory.Uint64(t.Memory, s.Data+uint64(at))
		if err != nil || addr == 0 {
			return 0, err == nil
		}
		pid, err = memory.Uint64(t.Memory, addr+uint64(t.Layout.Process.ID))
		if err == nil && IsPID(pid) {
			return pid, true
		}
		time.Sleep(time.Millisecond)
	}
	return pid, false
}

// checkThreads checks that the normal schedulers' registers, which mark where
// their C stacks begin, lie on the stacks of their own threads: the C libraries
// put a thread's structure at the upper end of its stack.
func (t *Target) checkThreads() Check {
	tids := map[int]bool{}
	normal, own := 0, 0
	for _, s := range t.Schedulers {
		tids[s.TID] = true
		if s.Kind != collector.ThreadScheduler {
			continue
		}
		normal++
		next := ^uint64(0)
		for _, other := range t.Schedulers {
			if other.pthread > s.Registers {
				next = min(next, other.pthread)
			}
		}
		if next == s.pthread && s.Registers%16 == 0 {
			own++
		}
	}
	return Check{
		Name: "threads",
		OK:   len(tids) == len(t.Schedulers) && own == normal,
		Detail: fmt.Sprintf("%d schedulers on %d threads, %d of %d normal ones have their registers on their own stack; %d other threads of the VM",
			len(t.Schedulers), len(tids), own, normal, len(t.threads)-len(tids)),
	}
}

// headWord returns the word at an offset of a process's head.
func headWord(head []byte, at Offset) uint64 { return binary.NativeEndian.Uint64(head[at:]) }
