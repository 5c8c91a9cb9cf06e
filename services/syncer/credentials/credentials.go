// Package credentials finds the user to log in as at another registry: what docker
// has stored, and what programs and servers hand out for a while.
package credentials

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// Source returns the user to log in as, nil for none. It may be called by several
// goroutines.
type Source func(ctx context.Context) (*upstream.Credentials, error)

// Options describe where a helper is used.
type Options struct {
	// Registry is the rule that names the helper, and Host the host[:port] of the
	// registry.
	Registry *config.SyncRegistry
	Host     string
	// Client returns a client that may reach the URLs that the configuration names
	// besides public addresses.
	Client func(named ...string) (*http.Client, error)
	Now    func() time.Time // nil: time.Now
}

// Helper opens a source. The error says what of the options can't be used.
type Helper func(Options) (Source, error)

// longest is how long credentials are kept at most, so that ones that were revoked
// are not used for the rest of their life.
const longest = time.Hour

// Kept returns s with its answers kept until a twelfth of their life is left. A
// source that fails is asked again by the next call; what it gave before is used as
// long as it is valid.
func Kept(s Source, now func() time.Time) Source {
	if now == nil {
		now = time.Now
	}
	var (
		mu    sync.Mutex // held while s is asked: one question is enough
		last  *upstream.Credentials
		until time.Time
	)
	return func(ctx context.Context) (*upstream.Credentials, error) {
		mu.Lock()
		defer mu.Unlock()
		at := now()
		if last != nil && at.Before(until) {
			return last, nil
		}
		c, err := s(ctx)
		switch {
		case err != nil && last != nil && at.Before(last.Until):
			return last, nil
		case err != nil || c == nil || c.Until.IsZero():
			return c, err
		}
		life := c.Until.Sub(at)
		last, until = c, at.Add(min(life-life/12, longest))
		return c, nil
	}
}

// First returns the answer of the first source that has one.
func First(sources ...Source) Source {
	return func(ctx context.Context) (*upstream.Credentials, error) {
		for _, s := range sources {
			if s == nil {
				continue
			}
			if c, err := s(ctx); err != nil || c != nil {
				return c, err
			}
		}
		return nil, nil //nolint:nilnil // nobody has any
	}
}
