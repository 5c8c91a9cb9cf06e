package memory

import (
	"context"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
)

// Allowed implements [registry.Access].
func (c *Catalog) Allowed(ctx context.Context, a registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	return c.options.Access.Allowed(a, repo, want), ctx.Err()
}

// mayEither returns nil if a may create the tag, or move it.
func (c *Catalog) mayEither(a registry.Actor, repo registry.Name, t registry.Tag) error {
	ref := registry.Reference{Tag: t}
	if c.options.Access.Allow(a, repo, ref, registry.ActUpdate) == nil {
		return nil
	}
	return c.options.Access.Allow(a, repo, ref, registry.ActCreate)
}

// mayPut returns nil if a may put m, unless that depends on which tags exist.
func (c *Catalog) mayPut(a registry.Actor, repo registry.Name, m registry.ManifestPut) error {
	if m.ByDigest || len(m.Tags) == 0 {
		if err := c.options.Access.Allow(a, repo, registry.Reference{Digest: m.Digest}, registry.ActCreate); err != nil {
			return err
		}
	}
	for _, t := range m.Tags {
		if err := c.mayEither(a, repo, t); err != nil {
			return err
		}
	}
	return nil
}

// maySet returns nil if a may let a tag point to something. r is nil if there is no
// such repository. c.mu must be held.
func (c *Catalog) maySet(a registry.Actor, repo registry.Name, r *repository, t registry.Tag) error {
	act := registry.ActCreate
	if r != nil && r.tags[t] != "" {
		act = registry.ActUpdate
	}
	return c.options.Access.Allow(a, repo, registry.Reference{Tag: t}, act)
}

// AccessRules implements [registry.Access].
func (c *Catalog) AccessRules(ctx context.Context, a registry.Actor) (*registry.AccessRules, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return nil, err
	}
	return c.options.Access.Rules(), ctx.Err()
}

// ExplainAccess implements [registry.Access].
func (c *Catalog) ExplainAccess(ctx context.Context, a, whom registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) (registry.AccessDecision, error) {
	d, err := c.options.Access.ExplainTo(a, whom, repo, ref, act)
	if err == nil {
		err = ctx.Err()
	}
	return d, err
}

// ReviewAccess implements [registry.Access]. Rules can have no conditions.
func (c *Catalog) ReviewAccess(ctx context.Context, a registry.Actor, r *registry.AccessRules) (registry.AccessReview, error) {
	return access.Review(ctx, c, a, c.options.Access, r, nil)
}
