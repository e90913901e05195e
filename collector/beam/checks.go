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
// on schedulers are processes, and what stands in for them in match specifications
// is none.
func (t *Target) checkSchedulers() Check {
	counts := map[collector.ThreadKind]int{}
	running, processes, made := 0, 0, 0
	for _, s := range t.Schedulers {
		counts[s.Kind]++
		if t.hasMadeUpProcess(s) {
			made++
		}
		runs, ok := t.runsProcess(s)
		if runs {
			running++
		}
		if ok {
			processes++
		}
	}
	return Check{
		Name: "schedulers",
		OK:   running == processes && made == len(t.Schedulers),
		Detail: fmt.Sprintf("%d normal, %d dirty CPU, %d dirty I/O have the type and number expected; %d of %d run a process, %d have none or one without pid for match specifications",
			counts[collector.ThreadScheduler], counts[collector.ThreadDirtyCPU], counts[collector.ThreadDirtyIO], processes, len(t.Schedulers), made),
	}
}

// hasMadeUpProcess tells whether the process that stands in for a scheduler's
// current one while it runs a match specification is made as the VM makes those that
// are not in its table (erts_init_empty_process, erl_process.c), or not yet made.
func (t *Target) hasMadeUpProcess(s Scheduler) bool {
	addr, err := memory.Uint64(t.Memory, s.Data+uint64(t.Layout.Scheduler.MatchProcess))
	if err != nil || addr == 0 {
		return err == nil
	}
	id, err := memory.Uint64(t.Memory, addr+uint64(t.Layout.Process.ID))
	return err == nil && id == invalidPID
}

// runsProcess tells whether a scheduler runs something, and whether that is a
// process. It may end and be freed before we look at it, so a scheduler that
// does not seem to run a process is looked at again.
func (t *Target) runsProcess(s Scheduler) (runs, ok bool) {
	for range checkRounds {
		addr, err := memory.Uint64(t.Memory, s.Data+uint64(t.Layout.Scheduler.CurrentProcess))
		if err != nil || addr == 0 {
			return err != nil, false
		}
		id, err := memory.Uint64(t.Memory, addr+uint64(t.Layout.Process.ID))
		if err == nil && IsPID(id) {
			return true, true
		}
		time.Sleep(time.Millisecond)
	}
	return true, false
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
