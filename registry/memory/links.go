package memory

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// Blob implements [registry.Links].
func (c *Catalog) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{Digest: d}, registry.ActRead); err != nil {
		return registry.Blob{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.Blob{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.Blob{}, err
	}
	b, err := r.blob(d)
	if _, damaged := c.damaged[place{b.Pool, d}]; damaged && err == nil && b.Inline == nil {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	return b, err
}

// blob returns what the repository knows as d. A nil repository knows nothing.
func (r *repository) blob(d registry.Digest) (registry.Blob, error) {
	if !r.knows(d) {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	if b, ok := r.links[d]; ok {
		return b, nil
	}
	m := r.manifests[d]
	return registry.Blob{
		Stored: registry.Stored{Digest: d, Size: int64(len(m.bytes))},
		Inline: m.bytes,
	}, nil
}

// Link implements [registry.Links].
func (c *Catalog) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActCreate); err != nil {
		return registry.Stored{}, err
	}
	if s.Locator == "" || s.Size < 0 {
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	if err := c.change(ctx, repo); err != nil {
		return registry.Stored{}, err
	}
	at := place{s.Pool, s.Digest}
	kept, ok := c.copies[at]
	if _, damaged := c.damaged[at]; damaged && kept.Locator != s.Locator {
		c.garbage = append(c.garbage, kept)
		c.replace(at, s)
		ok = false
	}
	if !ok {
		kept = s
		c.copies[at] = s
	}
	if kept.Locator != s.Locator {
		c.garbage = append(c.garbage, s)
	}
	c.ensure(repo).links[s.Digest] = registry.Blob{Stored: kept}
	c.mu.Unlock()

	// The link stands, whatever becomes of the second copy.
	c.reap(context.WithoutCancel(ctx))
	return kept, nil
}

// replace lets every repository have s instead of a damaged copy. c.mu must be held.
func (c *Catalog) replace(at place, s registry.Stored) {
	delete(c.damaged, at)
	for _, r := range c.repos {
		if b, ok := r.links[s.Digest]; ok && b.Pool == s.Pool && b.Inline == nil {
			r.links[s.Digest] = registry.Blob{Stored: s}
		}
	}
}

// reap removes the copies nobody needs. What can't be removed now is tried
// again the next time.
func (c *Catalog) reap(ctx context.Context) {
	if c.options.Reaper == nil {
		return
	}
	c.mu.Lock()
	garbage := c.garbage
	c.garbage = nil
	c.mu.Unlock()
	for _, s := range garbage {
		if err := c.options.Reaper.Remove(ctx, s); err != nil {
			c.mu.Lock()
			c.garbage = append(c.garbage, s)
			c.mu.Unlock()
		}
	}
}

// Mount implements [registry.Links].
func (c *Catalog) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActCreate); err != nil {
		return registry.Stored{}, err
	}
	if err := c.change(ctx, repo); err != nil {
		return registry.Stored{}, err
	}
	defer c.mu.Unlock()
	b, err := registry.Blob{}, error(registry.ErrBlobUnknown)
	switch {
	case from == "":
		b, err = c.anywhere(a, d)
	case c.mayReadDigest(a, from, d):
		b, err = c.repos[from].blob(d)
	}
	if err != nil {
		return registry.Stored{}, err
	}
	if b.Inline == nil {
		// A link leads to the repository's own pool.
		at := place{registry.PoolOf(repo, c.options.Pools), d}
		own, ok := c.copies[at]
		if _, damaged := c.damaged[at]; !ok || damaged {
			return registry.Stored{}, registry.ErrBlobUnknown
		}
		b.Stored = own
	}
	if r := c.ensure(repo); !r.knows(d) {
		r.links[d] = b
	}
	return b.Stored, nil
}

func (c *Catalog) mayRead(a registry.Actor, repo registry.Name) bool {
	return c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead) == nil
}

func (c *Catalog) mayReadDigest(a registry.Actor, repo registry.Name, d registry.Digest) bool {
	return c.options.Access.Allow(a, repo, registry.Reference{Digest: d}, registry.ActRead) == nil
}

// anywhere returns what any repository that a may read knows as d. c.mu must be held.
func (c *Catalog) anywhere(a registry.Actor, d registry.Digest) (registry.Blob, error) {
	for name, r := range c.repos {
		if b, err := r.blob(d); err == nil && c.mayReadDigest(a, name, d) {
			return b, nil
		}
	}
	return registry.Blob{}, registry.ErrBlobUnknown
}

// Unlink implements [registry.Links].
func (c *Catalog) Unlink(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.options.Access.Allow(a, repo, registry.Reference{Digest: d}, registry.ActDelete); err != nil {
		return err
	}
	if err := c.change(ctx, repo); err != nil {
		return err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return err
	}
	if !r.knows(d) {
		return registry.ErrBlobUnknown
	}
	if _, ok := r.manifests[d]; ok || r.uses(d) {
		return registry.ErrInUse
	}
	delete(r.links, d)
	return nil
}
