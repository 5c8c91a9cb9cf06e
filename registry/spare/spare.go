// Package spare knows how much storage is left without asking the file system for
// each request.
package spare

import (
	"sync/atomic"
	"time"
)

// While at least plenty is left beyond what is reserved, an answer is good for a
// moment: no disk takes that much in that time. With less the storage is asked each
// time, so that what is full is noticed at once, and that there is room again, too.
const (
	plenty = 1 << 30 // bytes
	moment = 50 * time.Millisecond
)

// Meter tells how many bytes are free. It may be used by many goroutines.
type Meter struct {
	ask   func() (int64, error)
	began time.Time // moments are counted from it: a clock that is set changes none
	free  atomic.Int64
	at    atomic.Int64 // when free was told, nanoseconds since began; 0: it was not
}

// NewMeter returns a Meter for storage of which ask tells how many bytes are free.
func NewMeter(ask func() (int64, error)) *Meter { return &Meter{ask: ask, began: time.Now()} }

// Free returns how many bytes are free, or the error of asking. Of storage that has
// much more than reserve bytes left, the answer may be 50 ms old.
func (m *Meter) Free(reserve int64) (int64, error) {
	now := int64(time.Since(m.began)) + 1
	if at := m.at.Load(); at > 0 && now-at < int64(moment) {
		if free := m.free.Load(); free-reserve >= plenty {
			return free, nil
		}
	}
	free, err := m.ask()
	if err != nil {
		return 0, err
	}
	m.free.Store(free)
	m.at.Store(now)
	return free, nil
}
