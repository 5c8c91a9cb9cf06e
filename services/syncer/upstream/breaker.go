package upstream

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

const (
	// failures in a row make a host count as down.
	failures = 5
	// probeEvery is how often a host that is down is tried.
	probeEvery = 30 * time.Second
	// maxHold bounds what a Retry-After may ask for.
	maxHold = time.Hour
)

// Breaker keeps requests from a host that does not answer, or asked for a pause.
// After [failures] failures in a row nothing is asked, but for one request each
// [probeEvery], until one succeeds.
type Breaker struct {
	now func() time.Time

	mu      sync.Mutex // guards all below
	failed  int
	until   time.Time       // no request before
	held    *registry.Error // until comes from the host's own word, and this is what it said; nil if not
	probing bool
	silent  bool      // the last request that was made got no answer in time, or has none yet
	trial   time.Time // while silent: from when on a request may take its time again
}

// Allow returns an error if no request should be made now. Each nil is followed by
// one of Succeeded, Failed, Hold and Ignore.
func (b *Breaker) Allow() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if b.held != nil && now.Before(b.until) {
		wait := b.until.Sub(now)
		return b.held.With("the upstream registry allows no more requests for %v", wait.Round(time.Second)).After(wait)
	}
	if b.failed < failures {
		return nil
	}
	if b.probing || now.Before(b.until) {
		return registry.ErrUnavailable.With("the upstream registry does not answer; it is tried again within %v", probeEvery).After(max(time.Second, b.until.Sub(now)))
	}
	b.probing = true
	return nil
}

// Down reports whether no request would be made now.
func (b *Breaker) Down() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now().Before(b.until) && (b.held != nil || b.failed >= failures) || b.probing
}

// Shaky reports whether the last request failed, or has not been answered in time.
func (b *Breaker) Shaky() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed > 0 || b.silent || b.held != nil && b.now().Before(b.until)
}

// Succeeded notes an answer. A pause that was asked for meanwhile is kept.
func (b *Breaker) Succeeded() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed, b.probing, b.silent = 0, false, false
	if !b.now().Before(b.until) {
		b.held = nil
	}
}

// Failed notes that there was none, or one that tells of a failure.
func (b *Breaker) Failed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed++
	b.probing = false
	if until := b.now().Add(probeEvery); b.failed >= failures && (b.held == nil || b.until.Before(until)) {
		b.until, b.held = until, nil
	}
}

// Silent notes that somebody has waited for an answer in vain: until there is one,
// nobody waits long.
func (b *Breaker) Silent() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.silent = true
}

// hurry reports whether the next request must not take long. One each [probeEvery]
// may: a host that is always slow would never be heard of again otherwise.
func (b *Breaker) hurry() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	if !b.silent || !now.Before(b.trial) {
		b.trial = now.Add(probeEvery)
		return false
	}
	return true
}

// Ignore notes that the request tells nothing of the host.
func (b *Breaker) Ignore() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing = false
}

// Hold makes no request for a time that the host asked for: they are err.
func (b *Breaker) Hold(d time.Duration, err *registry.Error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.probing, b.held, b.until = false, err, b.now().Add(d)
}

// retryAfter returns how long an answer asks to wait (RFC 9110 §10.2.3); a minute
// if it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	wait := time.Minute
	if n, err := strconv.ParseInt(text, 10, 32); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(now)
	}
	return max(time.Second, min(wait, maxHold))
}

// pace spaces requests evenly.
type pace struct {
	every time.Duration // 0: no limit
	now   func() time.Time
	mu    sync.Mutex
	next  time.Time
}

func interval(perSecond float64) time.Duration {
	if perSecond <= 0 {
		return 0
	}
	return time.Duration(float64(time.Second) / perSecond)
}

func (p *pace) wait(ctx context.Context) error {
	if p.every == 0 {
		return nil
	}
	p.mu.Lock()
	now := p.now()
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.every)
	p.mu.Unlock()
	t := time.NewTimer(at.Sub(now))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
