// Package stall notices storage that does not answer: calls that began and do not end.
package stall

import (
	"sync"
	"time"
)

// After is how long a call may wait for a disk before its owner should say that it can't
// serve. A disk that is only slow answers earlier.
const After = 20 * time.Second

// Watch knows which calls are under way. The zero value is ready for use, nil is a Watch
// that sees nothing; many goroutines may use one.
type Watch struct {
	mu    sync.Mutex // guards all below
	last  uint64
	began map[uint64]time.Time
}

// Begin notes that a call begins, and returns what [Watch.End] is told when it has ended.
func (w *Watch) Begin() uint64 {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.began == nil {
		w.began = make(map[uint64]time.Time)
	}
	w.last++
	w.began[w.last] = time.Now()
	return w.last
}

// End notes that a call has ended.
func (w *Watch) End(call uint64) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.began, call)
}

// Oldest returns how long the call has taken that began first of those under way, 0 if
// there is none. It is by the monotonic clock.
func (w *Watch) Oldest() time.Duration {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest time.Duration
	for _, began := range w.began {
		oldest = max(oldest, time.Since(began))
	}
	return oldest
}
