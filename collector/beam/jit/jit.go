// Package jit knows the code that the JIT of a running beam.smp made: which
// function an address belongs to, and the file and line.
//
// Its source is the list that the VM keeps for GDB's JIT interface and that is
// there in every Linux build, without any flag: __jit_debug_descriptor leads
// to one entry per module, each with a "symfile" of names, ranges and lines
// (erts/emulator/beam/jit/beam_jit_metadata.cpp). The layout read here is that
// of OTP 25 (25.2.3); it is unchanged in 27.3.4 and 29.1.
//
// The list is read while the VM goes on, so everything in it is checked:
// lengths against what is left, links against loops, and the whole against a
// second look, since from OTP 27 on entries go away when code is purged.
package jit

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Memory reads the target's memory: all of buf, or an error.
type Memory interface {
	Read(buf []byte, addr uint64) error
}

// Upper bounds of what is believed. A node with 40 000 ranges has about 1000
// entries and 4 MiB of symfiles.
const (
	MaxEntries     = 1 << 17   // entries in the list
	MaxSymfile     = 32 << 20  // bytes of one symfile
	MaxTotal       = 256 << 20 // bytes of the symfiles of all code known
	MaxGenerations = 16        // pieces of code that are remembered for one address
)

// Sentinel errors, wrapped with what was being read.
var (
	// ErrNoCode says that the VM has registered no code: it is an interpreter, or has not started up yet.
	ErrNoCode = errors.New("the VM has registered no JIT code")
	// ErrLayout says that the list is not laid out as in OTP 25 to 29.
	ErrLayout = errors.New("unknown layout of the VM's JIT list")
	// ErrIncomplete says that some code could not be read and has no names.
	ErrIncomplete = errors.New("not all JIT code could be read")
	// ErrUnstable says that the VM removed code during each of several looks at the list. The next call may succeed.
	ErrUnstable = errors.New("the VM's JIT list kept changing while it was read")
)

const (
	maxAttempts = 8                // looks at a list that changes or does not make sense
	retryDelay  = time.Millisecond // before each further look
	// recheck is how often, in nanoseconds of the caller's clock, the list is
	// walked although its descriptor looks the same: removals may not show there.
	recheck = 1_000_000_000
)

// Table knows all JIT code of one VM, and what it had since the table was
// opened. All methods are safe for concurrent use; Lookup, Contains and the
// other readers never wait for Refresh.
type Table struct {
	normalExit  uint64
	frameLayout int
	delay       time.Duration // retryDelay, but in tests
	index       atomic.Pointer[index]

	refresh sync.Mutex // guards what follows
	list    list
}

// Open reads all code that the VM has now, as registered at time 0.
// descriptor is the address of the VM's __jit_debug_descriptor. Call Refresh
// right after it: what comes later is known not to have been there before.
//
// If some of it does not make sense even after a few attempts, Open returns
// the table of the rest together with an error that wraps ErrIncomplete. With
// any other error there is no table: ErrNoCode, ErrLayout, ErrUnstable, or what
// memory returned.
func Open(memory Memory, descriptor uint64) (*Table, error) {
	return open(memory, descriptor, retryDelay)
}

func open(memory Memory, descriptor uint64, delay time.Duration) (*Table, error) {
	t := &Table{delay: delay, list: list{memory: memory, address: descriptor}}
	t.index.Store(&index{})
	d, err := readDescriptor(memory, descriptor)
	if err != nil {
		return nil, err
	}
	if d.first == 0 {
		return nil, fmt.Errorf("%w: it is an interpreter or still starting", ErrNoCode)
	}
	if _, err = t.update(d, 0); t.list.emulator == nil {
		return nil, err
	}
	t.normalExit, t.frameLayout = t.list.emulator.normalExit, t.list.emulator.frameLayout
	return t, err
}

// Event is that the VM put an entry into its list, or is taking one off.
type Event struct {
	Time    uint64 // nanoseconds of CLOCK_MONOTONIC
	Entry   uint64 // address of the struct jit_code_entry
	Removed bool
}

// Refresh takes in what the VM loaded and removed since the last call. at is
// the time (nanoseconds of CLOCK_MONOTONIC) that what is new gets as its time
// of registration, and what is gone as its end, unless an event tells better:
// not later than now. Events are in the order of their times, and each is told
// once; those of what was found without before set its time right. It tells
// whether anything changed.
//
// If nothing changed it costs one read of 24 bytes, and once a second (of at)
// one of each entry if the VM removes code. After an error that wraps
// ErrIncomplete the table holds all that could be read; after any other one it
// is as before.
func (t *Table) Refresh(at uint64, events ...Event) (changed bool, err error) {
	t.refresh.Lock()
	defer t.refresh.Unlock()
	at = max(at, t.list.checked, 1) // 0 stands for no time
	corrected := t.list.hear(events)
	d, err := readDescriptor(t.list.memory, t.list.address)
	switch {
	case err != nil:
	case d == t.list.descriptor && len(t.list.events) == 0 && (!t.list.doubtful || at-t.list.walked < recheck):
		t.list.checked = at
	default:
		changed, err = t.update(d, at)
	}
	if corrected && !changed {
		t.index.Store(t.index.Load().with(nil, t.list.counts()))
	}
	return changed || corrected, err
}

// update looks at the list until it makes sense and takes in what is new.
func (t *Table) update(d descriptor, at uint64) (bool, error) {
	var c change
	var err error
	held := t.index.Load().held()
	for attempt := range maxAttempts {
		if attempt > 0 {
			time.Sleep(t.delay)
			fresh, readErr := readDescriptor(t.list.memory, t.list.address)
			if readErr != nil {
				return false, readErr
			}
			d = fresh
		}
		if c, err = t.list.look(d, held); err == nil {
			break
		}
	}
	t.list.release()
	if errors.Is(err, ErrUnstable) {
		return false, err
	}
	changed := t.list.apply(c, at)
	if changed {
		t.index.Store(t.index.Load().with(c.added, t.list.counts()))
	}
	t.list.doubtful = t.list.removes || err != nil
	if err != nil && t.list.emulator != nil {
		err = fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	return changed, err
}

// Lookup returns the code that the address pc belonged to at time at: the
// newest registered not later than at that covers pc. Code that was removed by
// then is not found. As a registration is noticed after it happened, code that
// may have been there at that time (it was not at the last Refresh before, and
// it was at the next) is found if nothing else was there.
func (t *Table) Lookup(pc, at uint64) (Function, bool) {
	m := t.index.Load().generations(pc).at(at)
	if m == nil {
		return Function{}, false
	}
	return m.function(pc)
}

// Contains tells whether pc is in any code known, be it of now or of before.
func (t *Table) Contains(pc uint64) bool { return t.index.Load().code.contains(pc) }

// Version changes whenever the results of Lookup and Contains may change.
func (t *Table) Version() uint64 { return t.index.Load().version }

// NormalExit returns the return address at the bottom of every process's stack.
func (t *Table) NormalExit() uint64 { return t.normalExit }

// FrameLayout tells what a stack frame begins with: 0 for a return address
// only, 1 for a frame pointer and a return address.
func (t *Table) FrameLayout() int { return t.frameLayout }

// Stats returns how much the VM's list holds now: entries, among them the ones
// that could not be read, and the ranges and lines in the others.
func (t *Table) Stats() (entries, ranges, lines int) {
	c := t.index.Load().counts
	return c.entries, c.ranges, c.lines
}

// Unreadable returns how many of the list's entries could not be read: their
// code has no names.
func (t *Table) Unreadable() int { return t.index.Load().counts.unreadable }
