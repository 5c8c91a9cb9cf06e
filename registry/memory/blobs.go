package memory

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/berth-registry/berth/registry"
)

// sessionLife is how long a session lives that nobody touches.
const sessionLife = 24 * time.Hour

// Blobs implements [registry.Blobs].
type Blobs struct {
	mu      sync.Mutex // guards all that pools leads to, and journal
	pools   map[registry.Pool]*pool
	journal map[string][]byte // contents never change
}

var _ registry.Blobs = (*Blobs)(nil)

type pool struct {
	// A copy has the ID of its session as its locator: that is new for each
	// upload, and lets Commit be repeated.
	copies   map[registry.Locator]stored
	sessions map[registry.UploadID]*session
}

type stored struct {
	digest registry.Digest
	data   []byte // never changes
}

type session struct {
	data    []byte // its bytes never change, it only grows
	busy    bool   // a call holds the session and may let data grow
	touched time.Time
}

// NewBlobs returns an empty store with the default pool and the pools given.
func NewBlobs(pools ...registry.Pool) *Blobs {
	b := &Blobs{pools: make(map[registry.Pool]*pool), journal: make(map[string][]byte)}
	for _, p := range append([]registry.Pool{""}, pools...) {
		b.pools[p] = &pool{
			copies:   make(map[registry.Locator]stored),
			sessions: make(map[registry.UploadID]*session),
		}
	}
	return b
}

// pool returns pool p. b.mu must be held.
func (b *Blobs) pool(p registry.Pool) (*pool, error) {
	if found, ok := b.pools[p]; ok {
		return found, nil
	}
	return nil, registry.ErrUnavailable.With("no storage pool %q", p)
}

// find returns the copy s.
func (b *Blobs) find(ctx context.Context, s registry.Stored) (stored, error) {
	if err := ctx.Err(); err != nil {
		return stored{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(s.Pool)
	if err != nil {
		return stored{}, err
	}
	c, ok := p.copies[s.Locator]
	if !ok || int64(len(c.data)) != s.Size {
		return stored{}, registry.ErrBlobUnknown
	}
	return c, nil
}

// Open implements [registry.BlobReader].
func (b *Blobs) Open(ctx context.Context, s registry.Stored, r registry.Range) (registry.Content, error) {
	c, err := b.find(ctx, s)
	if err != nil {
		return nil, err
	}
	off, n, err := r.Resolve(s.Size)
	if err != nil {
		return nil, err
	}
	if r.Verify {
		if err := check(c.data, s.Digest); err != nil {
			return nil, err
		}
	}
	return newContent(ctx, c.data[off:off+n]), nil
}

// Start implements [registry.Uploads].
func (b *Blobs) Start(ctx context.Context, p registry.Pool, _ registry.Algorithm) (registry.Upload, error) {
	if err := ctx.Err(); err != nil {
		return registry.Upload{}, err
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	in, err := b.pool(p)
	if err != nil {
		return registry.Upload{}, err
	}
	maps.DeleteFunc(in.sessions, func(_ registry.UploadID, s *session) bool {
		return !s.busy && now.Sub(s.touched) > sessionLife
	})
	u := registry.Upload{ID: registry.NewUploadID(now), Pool: p}
	in.sessions[u.ID] = &session{touched: now}
	return u, nil
}

// session returns the session u. b.mu must be held.
func (b *Blobs) session(u registry.Upload) (*session, error) {
	p, err := b.pool(u.Pool)
	if err != nil {
		return nil, err
	}
	if s, ok := p.sessions[u.ID]; ok {
		return s, nil
	}
	return nil, registry.ErrUploadUnknown
}

// hold takes the session u for one call, which ends with release.
func (b *Blobs) hold(u registry.Upload) (*session, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.session(u)
	if err != nil {
		return nil, err
	}
	if s.busy || u.Offset != int64(len(s.data)) {
		return nil, registry.ErrRangeInvalid
	}
	s.busy = true
	return s, nil
}

func (b *Blobs) release(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.busy, s.touched = false, time.Now()
}

// receive adds the bytes of r to the session, which the caller holds. The bytes
// that came before an error count.
func (b *Blobs) receive(ctx context.Context, s *session, r io.Reader) error {
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		b.mu.Lock()
		s.data = append(s.data, buf[:n]...)
		b.mu.Unlock()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// Append implements [registry.Uploads].
func (b *Blobs) Append(ctx context.Context, u registry.Upload, r io.Reader) (registry.Upload, error) {
	if err := ctx.Err(); err != nil {
		return u, err
	}
	s, err := b.hold(u)
	if err != nil {
		return u, err
	}
	defer b.release(s)
	err = b.receive(ctx, s, r)
	u.Offset = int64(len(s.data)) // no lock: nobody else changes a held session
	return u, err
}

// Status implements [registry.Uploads].
func (b *Blobs) Status(ctx context.Context, u registry.Upload) (registry.Upload, error) {
	if err := ctx.Err(); err != nil {
		return u, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.session(u)
	if err != nil {
		return u, err
	}
	s.touched = time.Now()
	u.Offset = int64(len(s.data))
	return u, nil
}

// Commit implements [registry.Uploads].
func (b *Blobs) Commit(ctx context.Context, u registry.Upload, last io.Reader, want registry.Digest) (registry.Stored, error) {
	if err := ctx.Err(); err != nil {
		return registry.Stored{}, err
	}
	if done, ok := b.committed(u, want); ok {
		return done, nil
	}
	s, err := b.hold(u)
	if err != nil {
		return registry.Stored{}, err
	}
	defer b.release(s)
	if last != nil {
		if err := b.receive(ctx, s, last); err != nil {
			return registry.Stored{}, err
		}
	}
	if err := check(s.data, want); err != nil {
		return registry.Stored{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(u.Pool)
	if err != nil {
		return registry.Stored{}, err
	}
	delete(p.sessions, u.ID)
	at := registry.Locator(u.ID)
	p.copies[at] = stored{want, s.data}
	return describe(u.Pool, at, p.copies[at]), nil
}

// committed returns the copy that session u became, if that is what want names.
func (b *Blobs) committed(u registry.Upload, want registry.Digest) (registry.Stored, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(u.Pool)
	if err != nil {
		return registry.Stored{}, false
	}
	at := registry.Locator(u.ID)
	c, ok := p.copies[at]
	return describe(u.Pool, at, c), ok && c.digest == want
}

// check returns [registry.ErrDigestInvalid] unless data hashes to want.
func check(data []byte, want registry.Digest) error {
	if _, err := registry.ParseDigest(want.String()); err != nil {
		return err
	}
	if want.Algorithm().FromBytes(data) != want {
		return registry.ErrDigestInvalid
	}
	return nil
}

func describe(p registry.Pool, at registry.Locator, c stored) registry.Stored {
	return registry.Stored{Digest: c.digest, Size: int64(len(c.data)), Pool: p, Locator: at}
}

// Abort implements [registry.Uploads].
func (b *Blobs) Abort(ctx context.Context, u registry.Upload) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, err := b.session(u)
	if err != nil {
		return err
	}
	if s.busy {
		return registry.ErrRangeInvalid
	}
	delete(b.pools[u.Pool].sessions, u.ID)
	return nil
}

// Remove implements [registry.Reaper].
func (b *Blobs) Remove(ctx context.Context, s registry.Stored) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p, err := b.pool(s.Pool)
	if err != nil {
		return err
	}
	delete(p.copies, s.Locator)
	return nil
}

// Verify implements [registry.Reaper].
func (b *Blobs) Verify(ctx context.Context, s registry.Stored, _ int64) error {
	c, err := b.find(ctx, s)
	if err != nil {
		return err
	}
	return check(c.data, s.Digest)
}

// Copies implements [registry.Reaper].
func (b *Blobs) Copies(ctx context.Context, p registry.Pool, after *registry.Stored, limit int) ([]registry.Stored, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	in, err := b.pool(p)
	if err != nil {
		return nil, err
	}
	all := make([]registry.Stored, 0, len(in.copies))
	order := func(a, b registry.Stored) int {
		return cmp.Or(strings.Compare(a.Digest.String(), b.Digest.String()), strings.Compare(string(a.Locator), string(b.Locator)))
	}
	for at, c := range in.copies {
		if s := describe(p, at, c); after == nil || order(s, *after) > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, order)
	return all[:min(limit, len(all))], nil
}

// Check implements [registry.Checker].
func (b *Blobs) Check(ctx context.Context) (registry.Health, error) {
	return registry.Health{}, ctx.Err()
}
