package upload

import "time"

// SinkStats are the counts of a sink since the pipeline was made.
type SinkStats struct {
	Name, Type     string
	Sent           uint64            // profiles that were taken
	Retries        uint64            // attempts after the first
	Failures       map[string]uint64 // attempts that failed, by reason
	Dropped        map[string]uint64 // profiles given up, by reason
	Folded         uint64            // of those that were sent: different stacks made coarser to stay within the limits of servers
	Cut            uint64            // and different stacks that were too deep and lost frames of their middle
	LabelsLeftOut  uint64            // and labels that series had no room for
	QueuedProfiles int
	QueuedBytes    int64
	OldestQueued   time.Time // end of the oldest profile in the queue; zero if there is none
	LastError      string    // of the last attempt that failed; no secret is in it
	LastErrorTime  time.Time
	LastSuccess    time.Time
}
