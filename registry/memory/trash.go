package memory

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// undoWindow is how long Deleted says that something can be restored. Nothing
// here removes it then.
const undoWindow = 24 * time.Hour

// discarded is a manifest that was deleted.
type discarded struct {
	*manifest
	tags  []registry.Tag
	actor string
	at    int64
}

// removed is a repository that was deleted.
type removed struct {
	*repository
	actor string
	at    int64
}

// discard puts a manifest into the trash.
func (r *repository) discard(a registry.Actor, d registry.Digest, tags []registry.Tag) {
	r.trash[d] = discarded{r.manifests[d], tags, a.ID, time.Now().UnixMicro()}
	delete(r.manifests, d)
	delete(r.cached, d)
}

// DeleteRepository implements [registry.Trash].
func (c *Catalog) DeleteRepository(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActDelete); err != nil {
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
	for t := range r.tags {
		if err := c.options.Access.Allow(a, repo, registry.Reference{Tag: t}, registry.ActDelete); err != nil {
			return err
		}
	}
	delete(c.repos, repo)
	c.removed[repo] = removed{r, a.ID, time.Now().UnixMicro()}
	return nil
}

// Deleted implements [registry.Trash].
func (c *Catalog) Deleted(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Cursor]) (registry.List[registry.Deleted], error) {
	if repo != "" {
		if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
			return registry.List[registry.Deleted]{}, err
		}
	}
	if err := c.lock(ctx); err != nil {
		return registry.List[registry.Deleted]{}, err
	}
	defer c.mu.Unlock()
	all := make(map[registry.Cursor]registry.Deleted)
	for name, r := range c.removed {
		if (repo == "" || repo == name) && c.mayRead(a, name) {
			all[registry.Cursor("1 "+name)] = registry.Deleted{Repo: name, Actor: r.actor, At: r.at, Until: r.at + undoWindow.Microseconds()}
		}
	}
	for name, r := range c.repos {
		if repo != "" && repo != name || !c.mayRead(a, name) {
			continue
		}
		for d, m := range r.trash {
			all[registry.Cursor("2 "+string(name)+" "+string(d))] = registry.Deleted{
				Repo: name, Digest: d, Tags: m.tags, Size: int64(len(m.bytes)), Actor: m.actor, At: m.at, Until: m.at + undoWindow.Microseconds(),
			}
		}
		for t, h := range r.history {
			if r.tags[t] != "" || len(h) < 2 {
				continue
			}
			was, gone := h[len(h)-2].Digest, h[len(h)-1]
			if m := r.manifests[was]; m != nil {
				all[registry.Cursor("3 "+string(name)+" "+string(t))] = registry.Deleted{
					Repo: name, Digest: was, Tag: t, Size: int64(len(m.bytes)), Actor: gone.Actor, At: gone.At, Until: gone.At + undoWindow.Microseconds(),
				}
			}
		}
	}
	some := page(slices.Collect(maps.Keys(all)), p)
	list := registry.List[registry.Deleted]{More: some.More}
	for _, at := range some.Items {
		d := all[at]
		d.Cursor = at
		list.Items = append(list.Items, d)
	}
	return list, nil
}

// Undelete implements [registry.Trash].
func (c *Catalog) Undelete(ctx context.Context, a registry.Actor, repo registry.Name, ref registry.Reference) error {
	if err := c.options.Access.Allow(a, repo, ref, registry.ActCreate); err != nil {
		return err
	}
	if err := c.change(ctx, repo); err != nil {
		return err
	}
	defer c.mu.Unlock()
	r := c.repos[repo]
	if ref == (registry.Reference{}) {
		if r != nil {
			return registry.ErrPreconditionFailed.With("there is a repository of this name")
		}
		gone, ok := c.removed[repo]
		if !ok {
			return registry.ErrNameUnknown
		}
		for t := range gone.tags {
			if err := c.options.Access.Allow(a, repo, registry.Reference{Tag: t}, registry.ActCreate); err != nil {
				return err
			}
		}
		c.repos[repo] = gone.repository
		delete(c.removed, repo)
		return nil
	}
	if r == nil {
		return registry.ErrNameUnknown
	}
	d := ref.Digest
	if ref.Tag != "" {
		h := r.history[ref.Tag]
		if r.tags[ref.Tag] != "" {
			return registry.ErrPreconditionFailed.With("the tag exists")
		}
		if len(h) < 2 {
			return registry.ErrManifestUnknown
		}
		d = h[len(h)-2].Digest
	}
	if gone, ok := r.trash[d]; ok && ref.Tag == "" {
		for _, t := range gone.tags {
			if r.tags[t] != "" {
				continue
			}
			if err := c.options.Access.Allow(a, repo, registry.Reference{Tag: t}, registry.ActCreate); err != nil {
				return err
			}
		}
	}
	tags, err := c.restore(repo, d)
	if err != nil && (ref.Tag == "" || r.manifests[d] == nil) {
		return err
	}
	if ref.Tag != "" {
		tags = []registry.Tag{ref.Tag}
	}
	for _, t := range tags {
		if r.tags[t] == "" {
			r.point(a, t, d)
		}
	}
	return nil
}

// restore takes a manifest out of the trash, with what it needs, and returns the
// tags it had. c.mu must be held.
func (c *Catalog) restore(repo registry.Name, d registry.Digest) ([]registry.Tag, error) {
	r := c.repos[repo]
	m, ok := r.trash[d]
	if !ok {
		return nil, registry.ErrManifestUnknown
	}
	for _, ref := range m.info.References {
		if r.knows(ref.Digest) {
			continue
		}
		if _, gone := r.trash[ref.Digest]; gone {
			if _, err := c.restore(repo, ref.Digest); err != nil {
				return nil, err
			}
		} else if s, ok := c.copies[place{registry.PoolOf(repo, c.options.Pools), ref.Digest}]; ok && !ref.Optional {
			r.links[ref.Digest] = registry.Blob{Stored: s}
		}
	}
	if missing := r.missing(m.info); len(missing) > 0 {
		return nil, registry.ErrManifestBlobUnknown.Detailed(missing)
	}
	r.manifests[d] = m.manifest
	delete(r.trash, d)
	return m.tags, nil
}

// Purge implements [registry.Trash].
func (c *Catalog) Purge(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for name := range c.removed {
		if (repo == "" || repo == name) && c.mayRead(a, name) {
			delete(c.removed, name)
		}
	}
	for name, r := range c.repos {
		if (repo == "" || repo == name) && c.mayRead(a, name) {
			clear(r.trash)
		}
	}
	return nil
}

// Collect implements [registry.Collector]: nothing here ever goes by itself.
func (c *Catalog) Collect(ctx context.Context, a registry.Actor) (registry.Collection, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.Collection{}, err
	}
	return registry.Collection{}, ctx.Err()
}

// Plan implements [registry.Collector].
func (c *Catalog) Plan(ctx context.Context, a registry.Actor, _ registry.Page[registry.Cursor]) (registry.List[registry.Doomed], error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.List[registry.Doomed]{}, err
	}
	return registry.List[registry.Doomed]{}, ctx.Err()
}
