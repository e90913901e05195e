// Package pace makes those who look at something again and again do it at the same
// moments: what a process pays for is how often it wakes up.
package pace

import "time"

// Interval is how often what nobody waits for is looked at. A look costs about the
// same however much there is to see: what it needs is out of the CPU's caches by
// then, and Go's runtime looks about for some 10 ms.
const Interval = 4 * time.Second

// start is where all intervals begin. It has a monotonic reading: a clock that is
// set makes nobody wait.
var start = time.Now()

// Next returns the next moment at which something is to be done that is done every
// interval: for intervals that divide each other, moments that they share. It is
// in at most one interval.
func Next(interval time.Duration) time.Time {
	now := time.Now()
	return now.Add(interval - now.Sub(start)%interval)
}
