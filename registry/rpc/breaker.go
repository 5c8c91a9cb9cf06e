package rpc

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// tripAfter is how many calls of a replica must fail in a row before it is
	// left out.
	tripAfter = 5
	// firstPause is how long it is left out then, and maxPause how long at most
	// after pauses that double.
	firstPause = 500 * time.Millisecond
	maxPause   = 5 * time.Second
	// trialEvery is the time between calls that a replica gets after its pause
	// until one of them has shown how it is.
	trialEvery = time.Second
)

// breaker decides whether one replica gets calls. Too many failures in a row, of
// the network or because nothing came back, leave it out for a while, so that
// calls go elsewhere or fail at once instead of piling up. What a service itself
// answers, an error included, is no failure: whether that is well is for the
// health check to say.
type breaker struct {
	open     atomic.Int64 // calls in progress
	failures atomic.Int32 // in a row
	shut     atomic.Bool  // the replica is left out or on trial

	mu    sync.Mutex    // guards what follows, and changes of failures and shut
	pause time.Duration // the last one
	until time.Time     // the end of it
	trial time.Time     // from when on a call may be let through to see
}

// enter reports whether a call may go to the replica; if so, leave must follow.
func (b *breaker) enter() bool {
	if b.open.Add(1) > maxStreams || b.shut.Load() && !b.tries() {
		b.open.Add(-1) // there, it would wait in a queue for other calls to end
		return false
	}
	return true
}

// tries reports whether a call may be made to see how the replica is.
func (b *breaker) tries() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.shut.Load() && (now.Before(b.until) || now.Before(b.trial)) {
		return false
	}
	b.trial = now.Add(trialEvery)
	return true
}

// leave notes the end of a call.
func (b *breaker) leave(o outcome) {
	b.open.Add(-1)
	switch {
	case o == failed:
		b.fail()
	case o == answered && b.failures.Load() > 0:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.failures.Store(0)
		b.shut.Store(false)
		b.pause = 0
	}
}

func (b *breaker) fail() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.failures.Add(1) < tripAfter || b.shut.Load() && now.Before(b.until) {
		return // few, or of a call that began before the replica was left out
	}
	b.pause = min(max(2*b.pause, firstPause), maxPause)
	b.until = now.Add(b.pause - rand.N(b.pause/5))
	b.trial = b.until
	b.shut.Store(true)
}

// outcome is what the end of a call says of a replica.
type outcome int

const (
	unclear  outcome = iota // the caller has cancelled, or the call was never made
	answered                // by the service, be it with an error
	failed                  // by the network, or nothing came back in time
)

// outcomeOf says how a call of the given context ended.
func outcomeOf(ctx context.Context, info balancer.DoneInfo) outcome {
	switch {
	case info.Err == nil:
		if info.BytesReceived {
			return answered
		}
		return unclear
	case errors.Is(context.Cause(ctx), errStalled):
		return failed
	}
	switch status.Code(info.Err) {
	case codes.Canceled:
		return unclear
	case codes.DeadlineExceeded:
		return failed
	case codes.Unavailable:
		if neverArrived(info.Err) {
			return failed
		}
	}
	return answered
}
