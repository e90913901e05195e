package jit

import (
	"fmt"
	"slices"
)

// struct jit_descriptor and struct jit_code_entry of
// erts/emulator/beam/jit/beam_jit_metadata.cpp, OTP 25.2.3, after GDB's JIT
// interface: {u32 version, u32 action, ptr relevant, ptr first} and
// {ptr next, ptr prev, ptr symfile, u64 size}. New entries come first.
const (
	descriptorSize    = 24
	descriptorVersion = 1
	actionUnregister  = 2
	entrySize         = 32
)

type descriptor struct {
	version, action uint32
	relevant, first uint64
}

func readDescriptor(memory Memory, address uint64) (descriptor, error) {
	var b [descriptorSize]byte
	if err := memory.Read(b[:], address); err != nil {
		return descriptor{}, fmt.Errorf("read the JIT descriptor: %w", err)
	}
	d := descriptor{order.Uint32(b[0:]), order.Uint32(b[4:]), order.Uint64(b[8:]), order.Uint64(b[16:])}
	if d.version != descriptorVersion || d.action > actionUnregister {
		return descriptor{}, fmt.Errorf("%w: descriptor with version %d and action %d", ErrLayout, d.version, d.action)
	}
	return d, nil
}

// removes tells whether the VM takes entries off the list when it purges code.
// The releases that do clear relevant after each change (27.3.4); OTP 25, which
// only ever adds, leaves the last entry added there.
func (d descriptor) removes() bool {
	return d.action == actionUnregister || d.relevant == 0
}

// entry is one element of the list.
type entry struct{ address, next, prev, symfile, size uint64 }

func readEntry(memory Memory, address uint64) (entry, error) {
	var b [entrySize]byte
	if err := memory.Read(b[:], address); err != nil {
		return entry{}, err
	}
	return entry{address, order.Uint64(b[0:]), order.Uint64(b[8:]), order.Uint64(b[16:]), order.Uint64(b[24:])}, nil
}

// walk reads the entries from first up to the end of the list or the one at
// stop, and tells which of the two (0 or stop) it came to. With an error it
// returns those before the fault.
func walk(memory Memory, first, stop uint64) (entries []entry, end uint64, err error) {
	seen := make(map[uint64]bool)
	address := first
	for address != 0 && address != stop {
		if seen[address] {
			return entries, address, fmt.Errorf("the JIT list loops at entry %#x", address)
		}
		if len(entries) == MaxEntries {
			return entries, address, fmt.Errorf("the JIT list has more than %d entries", MaxEntries)
		}
		e, err := readEntry(memory, address)
		if err != nil {
			return entries, address, fmt.Errorf("read entry %d of the JIT list: %w", len(entries), err)
		}
		seen[address] = true
		entries = append(entries, e)
		address = e.next
	}
	return entries, address, nil
}

// addresses is the set of the entries' addresses.
func addresses(entries []entry) map[uint64]bool {
	set := make(map[uint64]bool, len(entries))
	for _, e := range entries {
		set[e.address] = true
	}
	return set
}

// alive tells whether an entry seen before is still in the list: one that was
// freed has another successor, and not one that is listed.
func (e entry) alive(memory Memory, listed map[uint64]bool) bool {
	now, err := readEntry(memory, e.address)
	return err == nil && now.symfile == e.symfile && now.size == e.size && (now.next == e.next || listed[now.next])
}

// record is an entry that was taken in.
type record struct {
	address, symfile, size uint64
	content                string // of the symfile
	life                   *life
	ranges, lines          int
	unreadable             bool // the symfile makes no sense
	guessed                bool // no event told when it came
}

func (r *record) is(e entry) bool {
	return r.address == e.address && r.symfile == e.symfile && r.size == e.size
}

// match finds the records that are still in the list, of which all is seen.
// What is left keeps its order and comes last, so it is sought from the end:
// the first fresh entries are new.
func match(records []*record, seen []entry) (fresh int, kept, removed []*record) {
	end := len(records)
	for fresh = len(seen); fresh > 0; fresh-- {
		i := end - 1
		for i >= 0 && !records[i].is(seen[fresh-1]) {
			i--
		}
		if i < 0 {
			break
		}
		kept = append(kept, records[i])
		removed = append(removed, records[i+1:end]...)
		end = i
	}
	slices.Reverse(kept)
	return fresh, kept, append(removed, records[:end]...)
}

// unknown returns the entries seen that are no records, for a list of which
// only the beginning is seen.
func unknown(records []*record, seen []entry) []entry {
	known := make(map[uint64]*record, len(records))
	for _, r := range records {
		known[r.address] = r
	}
	return slices.DeleteFunc(slices.Clone(seen), func(e entry) bool {
		r := known[e.address]
		return r != nil && r.is(e)
	})
}
