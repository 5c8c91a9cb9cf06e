package syncer

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/syncer/upstream"
)

// Stat implements [registry.Puller].
func (s *Service) Stat(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest) (int64, error) {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return 0, err
	}
	if b, err := s.catalog.Blob(ctx, installation, repo, d); err == nil {
		return b.Size, nil
	}
	s.mu.Lock()
	f, ok := s.fills[d]
	ok = ok && f.joinable(targets)
	if ok {
		f.hold(client)
	}
	s.mu.Unlock()
	if ok {
		size, err := f.sized(ctx)
		f.release(client)
		if !errors.Is(err, errReserved) {
			return size, err
		}
	}
	size, err := s.headBlob(ctx, targets, d)
	if err != nil || size >= 0 {
		return size, err
	}
	// A host that does not say: only the blob itself tells.
	if f, _, err = s.follow(ctx, d, repo, targets, -1, client); err != nil {
		return 0, err
	}
	if f, size, err = s.sized(ctx, f, repo, targets); f != nil {
		f.release(client)
	}
	return size, err
}

// Open implements [registry.Puller].
func (s *Service) Open(ctx context.Context, _ registry.Actor, repo registry.Name, d registry.Digest, r registry.Range) (registry.Content, error) {
	targets, err := s.sources(ctx, repo)
	if err != nil {
		return nil, err
	}
	f, err := s.join(ctx, repo, targets, d)
	if err != nil {
		return nil, err
	}
	joined := f != nil
	// It may have become local since the caller has looked; a fill that began before
	// this has not linked it yet, or is known to s.
	if f == nil {
		b, err := s.catalog.Blob(ctx, installation, repo, d)
		if err == nil {
			if b.Inline != nil {
				return nil, registry.ErrBlobUnknown
			}
			r.Verify = b.Unverified
			c, err := s.blobs.Open(ctx, b.Stored, r)
			if err == nil {
				targets[0].rule.state.saved.Add(c.Size())
			}
			return c, err
		}
		if s.lacks(repo, d) {
			return nil, registry.ErrBlobUnknown
		}
		if f, joined, err = s.follow(ctx, d, repo, targets, -1, client); err != nil {
			return nil, err
		}
	}
	f, size, err := s.sized(ctx, f, repo, targets)
	if f == nil {
		return nil, err
	}
	if err == nil && size == 0 {
		err = f.proven(ctx) // there is no last byte that could be held back
	}
	if err == nil {
		var offset, length int64
		if offset, length, err = r.Resolve(size); err == nil {
			s.meters.readers.Add(1)
			return &reader{f: f, ctx: ctx, at: offset, end: offset + length, length: length, whole: size, joined: joined}, nil
		}
	}
	f.release(client)
	return nil, err
}

// sized waits for the size of the blob that a client's fill is for. It returns the fill
// that the client has a reference to then, nil if none: another one if what has failed
// the first is no matter of the client's.
func (s *Service) sized(ctx context.Context, f *fill, repo registry.Name, targets []target) (*fill, int64, error) {
	size, err := f.sized(ctx)
	for tries := 0; err != nil && ctx.Err() == nil && tries < 3; tries++ {
		switch {
		case errors.Is(err, errReserved): // a copy's, which may take less of the month
			if err := f.over(ctx); err != nil {
				return f, 0, err
			}
		case f.joinable(targets):
			return f, 0, err
		default: // it was another upstream that failed, or has no such blob
		}
		f.release(client)
		if f, _, err = s.follow(ctx, f.digest, repo, targets, -1, client); err != nil {
			return nil, 0, err
		}
		size, err = f.sized(ctx)
	}
	return f, size, err
}

// over waits until a fill has ended, and another one can begin.
func (f *fill) over(ctx context.Context) error {
	for {
		f.mu.Lock()
		ended, changed := f.ended, f.changed
		f.mu.Unlock()
		if ended {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// join returns the fill that is under way, nil if there is none.
func (s *Service) join(ctx context.Context, repo registry.Name, targets []target, d registry.Digest) (*fill, error) {
	s.mu.Lock()
	f, ok := s.fills[d]
	if !ok {
		s.mu.Unlock()
		return nil, nil
	}
	f.hold(client)
	s.mu.Unlock()
	if err := s.enter(ctx, f, repo, targets); err != nil {
		f.release(client)
		return nil, err
	}
	return f, nil
}

// enter makes repo one of those that a fill is for. Who comes from another upstream
// must be served by that, too: what one upstream gives away for our credentials is
// not for the readers of another.
func (s *Service) enter(ctx context.Context, f *fill, repo registry.Name, targets []target) error {
	if !f.joinable(targets) {
		if _, err := s.headBlob(ctx, targets, f.digest); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.repos[repo] = true
	stored := f.stored // it was linked before we said who else wants it
	f.mu.Unlock()
	if stored.Digest != "" {
		if _, err := s.catalog.LinkCached(ctx, installation, repo, stored); err != nil {
			return fmt.Errorf("linking a blob: %w", err)
		}
	}
	s.meters.joined.Inc()
	return nil
}

// joinable reports whether a fill reads from the repositories that targets name.
func (f *fill) joinable(targets []target) bool {
	return slices.EqualFunc(f.targets, targets, func(a, b target) bool { return a.rule == b.rule && a.remote == b.remote })
}

func (s *Service) headBlob(ctx context.Context, targets []target, d registry.Digest) (int64, error) {
	if s.lacks(targets[0].repo, d) {
		return 0, registry.ErrBlobUnknown
	}
	var size int64
	err := s.each(targets, func(t target, h *upstream.Host) (err error) {
		size, err = h.HeadBlob(ctx, t.remote, d)
		return err
	})
	if errors.Is(err, registry.ErrBlobUnknown) || errors.Is(err, registry.ErrManifestUnknown) {
		s.lacking(targets[0].repo, d)
		err = registry.ErrBlobUnknown
	}
	return size, err
}

// lacks reports whether the upstream of repo has just said that it has no such blob.
func (s *Service) lacks(repo registry.Name, d registry.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.missing.has(tagKey{repo, registry.Reference{Digest: d}, true}, s.now())
}

func (s *Service) lacking(repo registry.Name, d registry.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing.add(tagKey{repo, registry.Reference{Digest: d}, true}, s.now())
}

// sized waits for the size of the blob.
func (f *fill) sized(ctx context.Context) (int64, error) {
	for {
		f.mu.Lock()
		size, err, stored, changed, ended := f.size, f.err, f.stored, f.changed, f.ended
		f.mu.Unlock()
		switch {
		case err != nil:
			if errors.Is(err, registry.ErrManifestUnknown) {
				err = registry.ErrBlobUnknown
			}
			return 0, err
		case stored.Digest != "" && size < 0:
			return stored.Size, nil
		case size >= 0:
			return size, nil
		case ended:
			return 0, errClosing
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// proven waits until all bytes have been compared with the digest.
func (f *fill) proven(ctx context.Context) error {
	for {
		f.mu.Lock()
		ok, err, changed := f.verified || f.stored.Digest != "", f.err, f.changed
		f.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
