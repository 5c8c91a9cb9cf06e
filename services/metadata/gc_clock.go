package metadata

import (
	"sync"
	"time"
)

// jumpSize is how far a clock may run ahead between two looks without being taken
// for one that was set.
const jumpSize = time.Minute

// jumps notices that the clock was set forward. Leases are by the clock; until
// one has passed since, nothing is collected.
type jumps struct {
	mu     sync.Mutex // guards all below
	lease  time.Duration
	last   time.Time // with the monotonic clock, if it has one
	passed time.Duration
	since  bool // there was a jump, passed ago
}

// atLeast makes the lease no shorter than d.
func (j *jumps) atLeast(d time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lease = max(j.lease, d)
}

// hold returns how long nothing may be collected. now is what the clock says; the
// zero value of jumps knows no earlier look.
func (j *jumps) hold(now time.Time) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.last
	j.last = now
	if last.IsZero() {
		return 0
	}
	elapsed := now.Sub(last) // by the monotonic clock
	return j.tick(elapsed, now.Round(0).Sub(last.Round(0)))
}

// tick notes that a time has passed in which the clock on the wall went ahead.
func (j *jumps) tick(elapsed, wall time.Duration) time.Duration {
	if wall-elapsed > jumpSize {
		j.since, j.passed = true, 0
		return j.lease
	}
	if !j.since {
		return 0
	}
	j.passed += elapsed
	if j.passed >= j.lease {
		j.since = false
		return 0
	}
	return j.lease - j.passed
}
