package jit

// maxEvents bounds the events that are kept until a look at the list succeeds.
const maxEvents = 1 << 16

// hear keeps events for the next look at the list. It tells whether one of them
// set the time right of an entry that was found before its event was told.
func (l *list) hear(events []Event) (corrected bool) {
	if len(events) == 0 {
		return false
	}
	guessed := map[uint64]*record{}
	for _, r := range l.records {
		if r.guessed {
			guessed[r.address] = r
		}
	}
	for _, e := range events {
		if r := guessed[e.Entry]; r != nil && !e.Removed && e.Time <= r.life.since.Load() {
			r.life.since.Store(max(e.Time, 1)) // 0 stands for no time
			r.guessed = false
			corrected = true
			continue
		}
		if len(l.events) < maxEvents {
			l.events = append(l.events, e)
		}
	}
	return corrected
}

// arrivals returns when each entry came, the last time.
func arrivals(events []Event) map[uint64]uint64 {
	times := map[uint64]uint64{}
	for _, e := range events {
		if !e.Removed {
			times[e.Entry] = max(e.Time, 1)
		}
	}
	return times
}

// removals returns when each entry went, the first time.
func removals(events []Event) map[uint64]uint64 {
	times := map[uint64]uint64{}
	for _, e := range events {
		if _, ok := times[e.Entry]; e.Removed && !ok {
			times[e.Entry] = e.Time
		}
	}
	return times
}
