package memory

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/berth-registry/berth/registry"
)

// ReportReads implements [registry.Scrubbing]. It looks at once.
func (c *Catalog) ReportReads(ctx context.Context, reads []registry.ReadReport) error {
	for _, r := range reads {
		if !r.Damaged || c.options.Reaper == nil {
			continue
		}
		if err := c.lookAt(ctx, r.Stored); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// lookAt finds out whether a copy is whole.
func (c *Catalog) lookAt(ctx context.Context, s registry.Stored) error {
	err := c.options.Reaper.Verify(ctx, s, 0)
	damaged := errors.Is(err, registry.ErrDigestInvalid) || errors.Is(err, registry.ErrBlobUnknown)
	if err != nil && !damaged {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := place{s.Pool, s.Digest}
	switch {
	case c.copies[at].Locator != s.Locator:
	case damaged:
		c.damaged[at] = registry.Damage{Digest: s.Digest, Pool: s.Pool, Size: s.Size, Found: time.Now().UnixMicro(), Reason: err.Error()}
	default:
		delete(c.damaged, at)
	}
	return nil
}

// StartScrub implements [registry.Scrubbing]. It has looked at everything when it
// returns.
func (c *Catalog) StartScrub(ctx context.Context, a registry.Actor) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if c.options.Reaper == nil {
		return registry.ErrUnsupported
	}
	c.mu.Lock()
	var all []registry.Stored
	for _, s := range c.copies {
		all = append(all, s)
	}
	c.mu.Unlock()
	for _, s := range all {
		if err := c.lookAt(ctx, s); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ScrubStatus implements [registry.Scrubbing].
func (c *Catalog) ScrubStatus(ctx context.Context, a registry.Actor) (registry.ScrubStatus, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return registry.ScrubStatus{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return registry.ScrubStatus{Damaged: int64(len(c.damaged))}, ctx.Err()
}

// Damages implements [registry.Scrubbing].
func (c *Catalog) Damages(ctx context.Context, a registry.Actor, after *registry.Damage, limit int) ([]registry.Damage, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	order := func(a, b registry.Damage) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Digest, b.Digest))
	}
	var all []registry.Damage
	for _, d := range c.damaged {
		if after == nil || order(d, *after) > 0 {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, order)
	all = all[:min(len(all), max(limit, 1))]
	for i := range all {
		for name, r := range c.repos {
			if _, ok := r.links[all[i].Digest]; ok && registry.PoolOf(name, c.options.Pools) == all[i].Pool && len(all[i].Repos) < registry.MaxDamageRepos {
				all[i].Repos = append(all[i].Repos, name)
			}
		}
		slices.Sort(all[i].Repos)
	}
	return all, ctx.Err()
}
