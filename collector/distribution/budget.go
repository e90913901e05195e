package distribution

import (
	"math/rand/v2"
	"time"
)

// What the probes may cost the VM, as a share of one core. What is asked for in
// full gets more; beyond that it is sampled as well.
const (
	sampledShare = 0.01
	fullShare    = 0.1
)

// probeCost is about what a probed message costs the process that sends it; one
// received costs less (BenchmarkMessages).
const probeCost = 5 * time.Microsecond

// saved bounds what is saved up while there are few messages: the share of so
// much time. A slice begins with a quarter of it.
const saved = time.Second

// budget is the time of the VM that the probes may take: it fills as time goes
// by, and each message takes from it. The probes are in the VM until it is
// empty, and again after a rest in which it fills up. How long that is is left
// to chance: otherwise work that comes at regular times might always be missed.
type budget struct {
	share  float64
	credit time.Duration // below 0: more was spent than there was
	filled time.Time     // when it was filled last
}

func newBudget(share float64, now time.Time) *budget {
	b := &budget{share: share, filled: now}
	b.credit = b.most()
	return b
}

func (b *budget) most() time.Duration { return time.Duration(b.share * float64(saved)) }

// spend takes what probed messages cost, and tells whether something is left.
func (b *budget) spend(messages uint64, now time.Time) bool {
	b.credit = min(b.credit+time.Duration(b.share*float64(now.Sub(b.filled))), b.most())
	b.filled = now
	b.credit -= time.Duration(messages) * probeCost
	return b.credit > 0
}

// left returns for how many messages there is something left, 1 at least.
func (b *budget) left() uint64 { return uint64(max(b.credit/probeCost, 1)) }

// rest returns how long the probes stay out of the VM: half as long as it takes
// to fill the budget, to half as long again.
func (b *budget) rest() time.Duration {
	need := float64(b.most()/4 - b.credit)
	return time.Duration(max(need, 0) / b.share * (0.5 + rand.Float64()))
}
