package syncer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
)

// mount makes a copy that another repository has known here. One of another size
// than readers were told, or one that is no copy, is of no use.
func (f *fill) mount(ctx context.Context) bool {
	err := f.settle(func(repo registry.Name) (registry.Stored, error) {
		stored, err := f.s.catalog.Mount(ctx, installation, repo, f.digest, "")
		if err == nil && (stored.Locator == "" || f.size >= 0 && f.size != stored.Size) {
			err = registry.ErrBlobUnknown
		}
		return stored, err
	})
	if err != nil {
		return false
	}
	f.s.meters.mounted.Inc()
	return true
}

// settle links the blob in each repository that wants it, also in those that come
// meanwhile. It is stored then: who comes after that links it himself.
func (f *fill) settle(link func(registry.Name) (registry.Stored, error)) error {
	linked := make(map[registry.Name]bool)
	var stored registry.Stored
	for {
		next, found := registry.Name(""), false
		f.mu.Lock()
		for r := range f.repos {
			if !linked[r] {
				next, found = r, true
			}
		}
		if !found {
			f.stored = stored
			if f.size < 0 {
				f.size = stored.Size
			}
			f.wake()
			f.mu.Unlock()
			return nil
		}
		f.mu.Unlock()
		var err error
		if stored, err = link(next); err != nil {
			return err
		}
		linked[next] = true
	}
}

// keep hands the staged bytes to the blobstore and links them.
func (f *fill) keep(ctx context.Context) error {
	if f.stored.Digest != "" { // it was here
		return nil
	}
	s := f.s
	pool, err := s.catalog.Admit(ctx, installation, f.repo())
	if err != nil {
		return fmt.Errorf("asking where a blob belongs: %w", err)
	}
	u, err := s.blobs.Start(ctx, pool, f.digest.Algorithm())
	if err != nil {
		return fmt.Errorf("starting to store a blob: %w", err)
	}
	// A blobstore on the same file system takes the file as it is. Who reads from it
	// has it open.
	stored, err := s.blobs.Commit(ctx, u, registry.NewGivenFile(f.file, f.size), f.digest)
	if err != nil {
		abort, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer done()
		return fmt.Errorf("storing a blob: %w", errors.Join(err, s.blobs.Abort(abort, u)))
	}
	err = f.settle(func(repo registry.Name) (registry.Stored, error) {
		return s.catalog.LinkCached(ctx, installation, repo, stored)
	})
	if err != nil {
		return fmt.Errorf("linking a blob: %w", err)
	}
	s.meters.blobs.Inc()
	return nil
}
