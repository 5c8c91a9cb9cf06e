package blobstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/stall"
	"github.com/berth-registry/berth/registry/tracing"
)

// Options are choices a [Store] leaves open. The zero value is fit for use.
type Options struct {
	// Now returns the wall time that upload ids get and expiry is counted by.
	// nil means time.Now.
	Now func() time.Time
	// Reserve is how many bytes of a pool's storage are left to others, as to a
	// database that has to record what is deleted: with less no pool takes new bytes.
	// 0: nothing.
	Reserve int64
	// Low and High are the parts of the storage in use, from 0 to 1, from which on
	// [registry.Health] tells of pressure, and at which it is 1. 0: it tells of none.
	Low, High float64
	// Metrics is where the store counts. nil: nobody wants to know.
	Metrics *metrics.Set
}

// Store implements [registry.Blobs] on one [Driver] per pool.
type Store struct {
	pools   map[registry.Pool]*pool
	now     func() time.Time
	buffers *buffers
	held    chan struct{} // holds an element for each stream that holds a chunk

	stop       context.CancelFunc // ends the janitor
	background sync.WaitGroup     // the janitor
}

var (
	_ registry.Blobs     = (*Store)(nil)
	_ registry.Presigner = (*Store)(nil)
)

// pool is one pool: its storage, and the sessions that are in use.
type pool struct {
	name     registry.Pool
	driver   Driver
	shared   bool  // see [Traits]
	part     int64 // see [Traits]
	space    space
	log      *slog.Logger
	meters   *meters
	readOnly atomic.Pointer[string] // why writes are refused, nil if they are not
	calls    *stall.Watch           // that wait for a disk; nil if the storage is none
	stalled  atomic.Bool            // it was told that one of them does not end

	mu       sync.Mutex // guards sessions, closed, asking, and what session says it guards
	asking   *asking    // nil if nobody asks how the pool feels
	sessions map[registry.UploadID]*session
	closed   bool
	settling sync.WaitGroup // goroutines of settle; Add under mu while not closed
}

// Open returns a Store on the given pools; there must be the default pool "".
// It closes the drivers in [Store.Close], not if it fails. Nothing it does grows
// with what is stored. ctx bounds Open alone.
func Open(ctx context.Context, pools map[registry.Pool]Driver, o Options, log *slog.Logger) (*Store, error) {
	if pools[""] == nil {
		return nil, errors.New("opening the blobstore: no default pool")
	}
	s := &Store{pools: make(map[registry.Pool]*pool, len(pools)), now: o.Now, buffers: newBuffers(), held: make(chan struct{}, maxHeldChunks)}
	if s.now == nil {
		s.now = time.Now
	}
	for name, driver := range pools {
		if err := driver.Check(ctx); err != nil {
			return nil, fmt.Errorf("opening pool %q: %w", name, err)
		}
		traits := driver.Traits()
		s.pools[name] = &pool{
			name:     name,
			driver:   driver,
			shared:   traits.Shared,
			part:     traits.Part,
			space:    space{reserve: o.Reserve, low: o.Low, high: o.High},
			log:      log.With(slog.String("pool", string(name))),
			sessions: make(map[registry.UploadID]*session),
		}
		if !traits.Shared {
			s.pools[name].calls = new(stall.Watch)
		}
		if storage, ok := driver.(Spacious); ok {
			s.pools[name].space.of(storage)
		}
		s.pools[name].meters = newMeters(o.Metrics, s.pools[name])
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.background.Go(func() { s.sweep(background) })
	return s, nil
}

// Close saves what is known of open sessions, stops the work in the background
// and closes the drivers. Methods called later are [registry.ErrUnavailable];
// the caller has waited for those in progress.
func (s *Store) Close() error {
	s.stop()
	s.background.Wait()
	var errs []error
	for _, p := range s.sorted() {
		p.close()
		if err := p.driver.Close(); err != nil {
			errs = append(errs, fmt.Errorf("closing pool %q: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// sorted returns the pools in the order of their names.
func (s *Store) sorted() []*pool {
	all := make([]*pool, 0, len(s.pools))
	for _, p := range s.pools {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pool) int { return cmp.Compare(a.name, b.name) })
	return all
}

// pool returns the pool of that name.
func (s *Store) pool(ctx context.Context, name registry.Pool) (*pool, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	return nil, registry.ErrUnavailable.Because(fmt.Errorf("no pool %q is configured", name))
}

// Check implements [registry.Checker].
func (s *Store) Check(ctx context.Context) (registry.Health, error) {
	var reasons []string
	h := registry.Health{Pools: make(map[registry.Pool]float64)}
	for _, p := range s.sorted() {
		c := p.condition(ctx)
		if c.failed != nil {
			return registry.Health{}, fmt.Errorf("checking pool %q: %w", p.name, c.failed)
		}
		if c.readOnly != "" {
			reasons = append(reasons, fmt.Sprintf("pool %q: %s", p.name, c.readOnly))
		}
		if c.pressure > 0 {
			h.Pools[p.name], h.Pressure = c.pressure, max(h.Pressure, c.pressure)
		}
	}
	h.ReadOnly = strings.Join(reasons, "; ")
	return h, nil
}

// Open implements [registry.BlobReader].
func (s *Store) Open(ctx context.Context, b registry.Stored, r registry.Range) (registry.Content, error) {
	p, err := s.pool(ctx, b.Pool)
	if err != nil {
		return nil, err
	}
	if !named(b) {
		return nil, registry.ErrBlobUnknown
	}
	offset, n, err := r.Resolve(b.Size)
	if err != nil {
		// A copy that is not there is unknown, whatever was asked of it.
		size, missing := p.driver.Stat(ctx, b.Digest, b.Locator)
		switch {
		case missing != nil:
			return nil, p.failed(missing)
		case size != b.Size:
			return nil, registry.ErrBlobUnknown
		}
		return nil, err
	}
	_, span := tracing.Start(ctx, "open blob", tracing.Inside)
	var c registry.Content
	if r.Verify {
		c, err = s.openChecked(ctx, p, b, offset, n)
	} else {
		c, err = p.open(ctx, b, offset, n)
	}
	span.End(err)
	if err != nil {
		return nil, p.failed(err)
	}
	p.meters.opened.Inc()
	return c, nil
}

// open opens n bytes from offset on of b, unchecked.
func (p *pool) open(ctx context.Context, b registry.Stored, offset, n int64) (registry.Content, error) {
	call := p.calls.Begin()
	defer p.calls.End(call)
	return p.driver.Open(ctx, b, offset, n)
}

// Presign implements [registry.Presigner].
func (s *Store) Presign(ctx context.Context, b registry.Stored) (string, error) {
	p, err := s.pool(ctx, b.Pool)
	if err != nil {
		return "", err
	}
	d, ok := p.driver.(Presigner)
	if !ok {
		return "", registry.ErrUnsupported
	}
	if !named(b) {
		return "", registry.ErrBlobUnknown
	}
	url, err := d.Presign(ctx, b)
	return url, p.failed(err)
}

// named reports whether b can name a copy at all.
func named(b registry.Stored) bool {
	_, err := registry.ParseDigest(b.Digest.String())
	return err == nil && b.Locator != "" && b.Size >= 0
}

// Remove implements [registry.Reaper].
func (s *Store) Remove(ctx context.Context, b registry.Stored) error {
	p, err := s.pool(ctx, b.Pool)
	if err != nil {
		return err
	}
	if !named(b) {
		return nil
	}
	call := p.calls.Begin()
	err = p.driver.Remove(ctx, b)
	p.calls.End(call)
	if err != nil {
		return p.failed(err)
	}
	p.meters.removed.Inc()
	return nil
}

// Copies implements [registry.Reaper].
func (s *Store) Copies(ctx context.Context, name registry.Pool, after *registry.Stored, limit int) ([]registry.Stored, error) {
	p, err := s.pool(ctx, name)
	if err != nil {
		return nil, err
	}
	all, err := p.driver.Copies(ctx, after, min(max(limit, 1), 1000))
	for i := range all {
		all[i].Pool = name
	}
	return all, p.failed(err)
}
