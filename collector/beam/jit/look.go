package jit

import (
	"errors"
	"fmt"
)

// list is what is known of the VM's list. It is used under Table.refresh.
type list struct {
	memory     Memory
	address    uint64    // of the descriptor
	records    []*record // newest first
	emulator   *emulatorInfo
	descriptor descriptor // at the last look
	removes    bool       // the VM removes entries
	doubtful   bool       // there may be changes that the descriptor does not show
	walked     uint64     // time of the last look
	checked    uint64     // time of the last Refresh: what comes later was not there

	// What was heard of and is not found yet. Those that are of no use are
	// dropped at the next look.
	events []Event

	buffer []byte
}

// change is the difference that a look at the list found.
type change struct {
	descriptor descriptor
	removes    bool
	added      []*module // newest first
	born       []*record // all new entries
	removed    []*record
	records    []*record // all that is there, newest first
	emulator   *emulatorInfo
}

// look reads the list and all that is new in it; held is the number of bytes
// of the symfiles known already. It does not change what is known. After an
// error other than ErrUnstable the change has what makes sense.
func (l *list) look(d descriptor, held int) (change, error) {
	c := change{descriptor: d, removes: l.removes || d.removes(), emulator: l.emulator}
	var stop uint64 // entries that are never removed need not be read again
	if !c.removes && len(l.records) > 0 {
		stop = l.records[0].address
	}
	seen, end, walkErr := walk(l.memory, d.first, stop)
	if walkErr == nil && end == 0 {
		walkErr = l.whole(seen)
	}
	fresh, kept := seen, l.records
	switch {
	case walkErr != nil: // what follows is not known: keep it
		fresh = unknown(l.records, seen)
	case end == 0:
		var n int
		n, kept, c.removed = match(l.records, seen)
		reused := l.reused(kept)
		c.removed = append(c.removed, kept[:reused]...)
		kept, fresh = kept[reused:], seen[:n+reused]
	}
	err := errors.Join(walkErr, l.load(&c, fresh, addresses(seen), MaxTotal-held))
	c.records = append(c.records, kept...)
	if c.emulator == nil {
		err = errors.Join(err, fmt.Errorf("%w: there is no emulator information", ErrLayout))
	}
	if err == nil {
		return c, nil
	}
	// What makes no sense may only be out of date.
	if now, readErr := readDescriptor(l.memory, l.address); c.removes && (readErr != nil || now != d) {
		return change{}, ErrUnstable
	}
	return c, err
}

// whole tells whether entries end with the oldest one known: the VM's own code
// is never removed, so otherwise the way led through a freed entry.
func (l *list) whole(seen []entry) error {
	if len(l.records) == 0 {
		return nil
	}
	oldest := l.records[len(l.records)-1].address
	if len(seen) == 0 || seen[len(seen)-1].address != oldest {
		return fmt.Errorf("the JIT list ends without entry %#x", oldest)
	}
	return nil
}

// reused returns how many of the newest records are not what is in the list
// now, although it looks so: the VM may have freed an entry and put a new one
// at its address. New ones come before all that stayed.
func (l *list) reused(kept []*record) int {
	const enough = 16 // more do not come back in the same order; read all again then
	for n, r := range kept {
		if n == enough {
			return len(kept)
		}
		if r.unreadable {
			return n
		}
		if b, err := l.read(r); err == nil && string(b) == r.content {
			return n
		}
	}
	return len(kept)
}

// load reads the symfiles of new entries, the newest first, up to a number of
// bytes in all. Entries that are gone by then, as the others listed show, are
// left out.
func (l *list) load(c *change, entries []entry, listed map[uint64]bool, budget int) error {
	var failed []error
	more := 0
	for _, e := range entries {
		r := &record{address: e.address, symfile: e.symfile, size: e.size, life: &life{}}
		info, m, err := l.parse(r, &budget)
		if c.removes && !e.alive(l.memory, listed) {
			continue
		}
		c.records = append(c.records, r)
		c.born = append(c.born, r)
		switch {
		case err != nil:
			r.unreadable = true
			if len(failed) == 3 {
				more++
				continue
			}
			failed = append(failed, fmt.Errorf("entry %#x: %w", e.address, err))
		case info != nil:
			c.emulator = info
		default:
			m.life, r.ranges, r.lines = r.life, m.rangeCount, m.lineCount
			c.added = append(c.added, m)
		}
	}
	if more > 0 {
		failed = append(failed, fmt.Errorf("and %d entries more", more))
	}
	return errors.Join(failed...)
}

// parse reads the symfile of a record.
func (l *list) parse(r *record, budget *int) (*emulatorInfo, *module, error) {
	if r.size > MaxSymfile {
		return nil, nil, fmt.Errorf("symfile of %d bytes (the limit is %d)", r.size, MaxSymfile)
	}
	// The emulator's information must not be what does not fit.
	if int(r.size) > *budget && r.size != debugInfoSize {
		return nil, nil, fmt.Errorf("symfiles of more than %d bytes in all", MaxTotal)
	}
	*budget -= int(r.size)
	b, err := l.read(r)
	if err != nil {
		return nil, nil, err
	}
	info, m, err := parseSymfile(b)
	switch {
	case m != nil:
		r.content = m.symfile
	case info != nil:
		r.content = string(b)
	}
	return info, m, err
}

// read returns the symfile's bytes, good until the next call.
func (l *list) read(r *record) ([]byte, error) {
	if uint64(cap(l.buffer)) < r.size {
		l.buffer = make([]byte, r.size+r.size/4)
	}
	b := l.buffer[:r.size]
	if err := l.memory.Read(b, r.symfile); err != nil {
		return nil, fmt.Errorf("read its symfile: %w", err)
	}
	return b, nil
}

// release frees the room that reading needed.
func (l *list) release() { l.buffer = nil }

// apply takes a change in that was seen at a time.
func (l *list) apply(c change, at uint64) (changed bool) {
	came, went := arrivals(l.events), removals(l.events)
	for _, r := range c.born {
		since, ok := came[r.address]
		r.life.after = since
		if !ok {
			since, r.guessed = at, at != 0
			r.life.after = l.checked
		}
		r.life.since.Store(since)
	}
	for _, r := range c.removed {
		until, ok := went[r.address]
		if !ok {
			until = at
		}
		r.life.until.Store(max(until, r.life.since.Load()))
	}
	l.events = nil
	l.records, l.emulator, l.descriptor = c.records, c.emulator, c.descriptor
	l.removes = c.removes
	l.walked, l.checked = at, at
	return len(c.born)+len(c.removed) > 0
}

// counts sums the records up.
func (l *list) counts() counts {
	c := counts{entries: len(l.records)}
	for _, r := range l.records {
		c.ranges += r.ranges
		c.lines += r.lines
		if r.unreadable {
			c.unreadable++
		}
	}
	return c
}
