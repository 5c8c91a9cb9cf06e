package blobstore

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Layouts is a [Driver] on a directory where somebody else keeps OCI image
// layouts, see [registry.Layouts]. The Pool of what it returns is empty.
type Layouts interface {
	Layouts(ctx context.Context) iter.Seq2[registry.Name, error]
	LayoutStamp(ctx context.Context, repo registry.Name) (string, error)
	LayoutIndex(ctx context.Context, repo registry.Name) ([]byte, error)
	LayoutCopies(ctx context.Context, repo registry.Name, blobs []registry.Digest) ([]registry.LayoutCopy, error)
	// TakeOver returns [registry.ErrUnsupported] if the bytes must be copied. born
	// is the time that is part of a new locator.
	TakeOver(ctx context.Context, s registry.Stored, born time.Time) (registry.Locator, error)
	LayoutFiles(ctx context.Context, repo registry.Name) iter.Seq2[registry.LayoutFile, error]
	RemoveLayoutFiles(ctx context.Context, repo registry.Name, blobs []registry.Digest) (int64, error)
	RemoveLayout(ctx context.Context, repo registry.Name) (int64, error)
}

var _ registry.Layouts = (*Store)(nil)

// layouts returns the layouts of a pool, nil if it can have none.
func (s *Store) layouts(ctx context.Context, name registry.Pool) (*pool, Layouts, error) {
	p, err := s.pool(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	l, _ := p.driver.(Layouts)
	return p, l, nil
}

// Layouts implements [registry.Layouts].
func (s *Store) Layouts(ctx context.Context, name registry.Pool) iter.Seq2[registry.Name, error] {
	return func(yield func(registry.Name, error) bool) {
		p, l, err := s.layouts(ctx, name)
		if err != nil {
			yield("", err)
		}
		if l == nil {
			return
		}
		for repo, err := range l.Layouts(ctx) {
			if !yield(repo, p.failed(err)) {
				return
			}
		}
	}
}

// LayoutStamp implements [registry.Layouts].
func (s *Store) LayoutStamp(ctx context.Context, name registry.Pool, repo registry.Name) (string, error) {
	p, l, err := s.layouts(ctx, name)
	if err != nil {
		return "", err
	}
	if l == nil {
		return "", registry.ErrNameUnknown
	}
	stamp, err := l.LayoutStamp(ctx, repo)
	return stamp, p.failed(err)
}

// LayoutIndex implements [registry.Layouts].
func (s *Store) LayoutIndex(ctx context.Context, name registry.Pool, repo registry.Name) ([]byte, error) {
	p, l, err := s.layouts(ctx, name)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return nil, registry.ErrNameUnknown
	}
	b, err := l.LayoutIndex(ctx, repo)
	return b, p.failed(err)
}

// LayoutCopies implements [registry.Layouts].
func (s *Store) LayoutCopies(ctx context.Context, name registry.Pool, repo registry.Name, blobs []registry.Digest) ([]registry.LayoutCopy, error) {
	p, l, err := s.layouts(ctx, name)
	if err != nil || l == nil {
		return nil, err
	}
	all, err := l.LayoutCopies(ctx, repo, blobs)
	for i := range all {
		all[i].Pool = name
	}
	return all, p.failed(err)
}

// TakeOver implements [registry.Layouts].
func (s *Store) TakeOver(ctx context.Context, b registry.Stored) (registry.Stored, error) {
	p, l, err := s.layouts(ctx, b.Pool)
	if err != nil {
		return registry.Stored{}, err
	}
	if l == nil || !named(b) {
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	if err := p.writable(); err != nil {
		return registry.Stored{}, err
	}
	locator, err := l.TakeOver(ctx, b, s.now())
	if errors.Is(err, registry.ErrUnsupported) {
		return s.duplicate(ctx, b)
	}
	b.Locator = locator
	return b, p.failed(err)
}

// duplicate makes a copy of b by an upload.
func (s *Store) duplicate(ctx context.Context, b registry.Stored) (registry.Stored, error) {
	content, err := s.Open(ctx, b, registry.Whole)
	if err != nil {
		return registry.Stored{}, err
	}
	defer content.Close()
	u, err := s.Start(ctx, b.Pool, b.Digest.Algorithm())
	if err != nil {
		return registry.Stored{}, err
	}
	made, err := s.Commit(ctx, u, content, b.Digest)
	if err != nil {
		return registry.Stored{}, errors.Join(err, s.Abort(context.WithoutCancel(ctx), u))
	}
	return made, nil
}

// LayoutFiles implements [registry.Layouts].
func (s *Store) LayoutFiles(ctx context.Context, name registry.Pool, repo registry.Name) iter.Seq2[registry.LayoutFile, error] {
	return func(yield func(registry.LayoutFile, error) bool) {
		p, l, err := s.layouts(ctx, name)
		if err != nil {
			yield(registry.LayoutFile{}, err)
		}
		if l == nil {
			return
		}
		for f, err := range l.LayoutFiles(ctx, repo) {
			if !yield(f, p.failed(err)) {
				return
			}
		}
	}
}

// RemoveLayoutFiles implements [registry.Layouts].
func (s *Store) RemoveLayoutFiles(ctx context.Context, name registry.Pool, repo registry.Name, blobs []registry.Digest) (int64, error) {
	p, l, err := s.layouts(ctx, name)
	if err != nil || l == nil {
		return 0, err
	}
	n, err := l.RemoveLayoutFiles(ctx, repo, blobs)
	return n, p.failed(err)
}

// RemoveLayout implements [registry.Layouts].
func (s *Store) RemoveLayout(ctx context.Context, name registry.Pool, repo registry.Name) (int64, error) {
	p, l, err := s.layouts(ctx, name)
	if err != nil || l == nil {
		return 0, err
	}
	n, err := l.RemoveLayout(ctx, repo)
	return n, p.failed(err)
}
