package pace

import (
	"testing"
	"time"
)

func TestNext(t *testing.T) {
	for range 1000 {
		now := time.Now()
		short, long := Next(20*time.Millisecond), Next(100*time.Millisecond)
		for interval, next := range map[time.Duration]time.Time{20 * time.Millisecond: short, 100 * time.Millisecond: long} {
			if !next.After(now) {
				t.Fatalf("next look %v ago", now.Sub(next))
			}
			if wait := time.Until(next); wait > interval {
				t.Fatalf("next look in %v, at intervals of %v", wait, interval)
			}
			if off := next.Sub(start) % interval; off != 0 {
				t.Fatalf("looks at intervals of %v are off by %v", interval, off)
			}
		}
	}
}
