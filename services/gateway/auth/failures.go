package auth

import (
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// How many wrong passwords a minute are looked at. A user's own clients, from one
// source, run into the first number; guesses at a name from many places, or at many
// names from one, into the others. What was verified before and is still remembered
// is not affected, so that nobody can lock out a client that works.
const (
	failuresPerPair    = 20
	failuresPerAccount = 100
	failuresPerSource  = 200

	failureWindow = time.Minute
	// maxFailures bounds how many pairs, accounts and sources are counted.
	maxFailures = 32 << 10
)

// failures counts wrong passwords. It may be used by many goroutines.
type failures struct {
	now func() time.Time

	mu    sync.Mutex // guards all below
	young map[failure]count
	old   map[failure]count // dropped when young is full; then young takes its place
}

// failure is what is counted: an empty field stands for all.
type failure struct{ account, source string }

type count struct {
	n     int
	since time.Time // of the first in the window
}

func newFailures(now func() time.Time) *failures { return &failures{now: now} }

// maxAccount is how many bytes of a name tell accounts apart here.
const maxAccount = 256

// limits returns what an attempt counts for, each with its limit.
func (f *failures) limits(account, source string) [3]struct {
	failure
	most int
} {
	account = spelled(account[:min(len(account), maxAccount)])
	return [3]struct {
		failure
		most int
	}{
		{failure{account, source}, failuresPerPair},
		{failure{account: account}, failuresPerAccount},
		{failure{source: source}, failuresPerSource},
	}
}

// spelled returns what different spellings of a name have in common: directories find a
// user by all of them, and whoever guesses may not begin anew with each.
func spelled(account string) string { return strings.ToLower(strings.TrimSpace(account)) }

// check returns [registry.ErrTooManyRequests] if there were too many failures in
// the last minute.
func (f *failures) check(account, source string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.limits(account, source) {
		if l.failure != (failure{}) && f.get(l.failure).n >= l.most {
			return registry.ErrTooManyRequests.With("too many wrong passwords; wait a minute")
		}
	}
	return nil
}

// add counts a failure.
func (f *failures) add(account, source string) {
	// Not a part of the credentials, which would stay in memory with it.
	account = strings.Clone(account[:min(len(account), maxAccount)])
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.limits(account, source) {
		if l.failure == (failure{}) {
			continue
		}
		c := f.get(l.failure)
		if c.n == 0 {
			c.since = f.now()
		}
		c.n++
		if len(f.young) >= maxFailures/2 {
			f.young, f.old = nil, f.young
		}
		if f.young == nil {
			f.young = make(map[failure]count)
		}
		f.young[l.failure] = c
	}
}

func (f *failures) get(key failure) count {
	c, ok := f.young[key]
	if !ok {
		c = f.old[key]
	}
	if f.now().Sub(c.since) >= failureWindow {
		return count{}
	}
	return c
}
