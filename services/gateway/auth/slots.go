package auth

import (
	"context"
	"runtime"
	"sync"

	"github.com/berth-registry/berth/registry"
)

// How many may wait for a slot, over all and of one source.
const (
	maxWaiting          = 512
	maxWaitingPerSource = 128
)

// Slots are places to hash in. There are fewer than processors (but for machines
// with one), so that those who need no hash find one free.
type Slots struct {
	free chan struct{}

	mu      sync.Mutex // guards all below
	waiting int
	by      map[string]int // waiting, by source
}

// NewSlots returns n slots; 0 means as many as suit the machine.
func NewSlots(n int) *Slots {
	if n <= 0 {
		n = max(1, runtime.GOMAXPROCS(0)-1)
	}
	return &Slots{free: make(chan struct{}, n), by: make(map[string]int)}
}

// Do calls f in a slot. It waits for one, unless too many do:
// [registry.ErrTooManyRequests].
func (s *Slots) Do(ctx context.Context, source string, f func()) error {
	if err := s.enter(source); err != nil {
		return err
	}
	defer s.leave(source)
	select {
	case s.free <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.free }()
	f()
	return nil
}

// Login does so for the password that q brings. Who waited while others guessed too often
// at the same name, or from the same source, is refused like those who come later, and
// costs nothing.
func (s *Slots) Login(ctx context.Context, q *Request, f func()) error {
	var late error
	err := s.Do(ctx, q.Source, func() {
		if late = q.guesses(); late == nil {
			f()
		}
	})
	if err != nil {
		return err
	}
	return late
}

func (s *Slots) enter(source string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting >= maxWaiting || s.by[source] >= maxWaitingPerSource {
		return registry.ErrTooManyRequests.With("too many passwords are being checked")
	}
	s.waiting++
	s.by[source]++
	return nil
}

func (s *Slots) leave(source string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting--
	if s.by[source]--; s.by[source] == 0 {
		delete(s.by, source)
	}
}
