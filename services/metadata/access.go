package metadata

import (
	"context"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	rules "github.com/berth-registry/berth/registry/access"
)

// access decides who may do what. Every method of [Catalog] with an actor asks it
// first, before anything is read.
type access interface {
	// allow returns nil, [registry.ErrUnauthorized] or [registry.ErrDenied]. repo is
	// "" for the store as a whole.
	allow(a registry.Actor, repo registry.Name, act registry.Actions) error
	// allowRef is allow for a request that names a tag or manifest.
	allowRef(a registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) error
	// conditional reports whether what may be done can depend on the tag.
	conditional(repo registry.Name) bool
	// detectsCollision reports whether a may not delete a manifest by digest that
	// several tags point to.
	detectsCollision(a registry.Actor, repo registry.Name) bool
	// viewer returns what a may see in lists.
	viewer(a registry.Actor) viewer
}

// rights are an access by rules, which may be replaced at any time. Until there are
// any, everybody may do everything.
type rights struct{ policy atomic.Pointer[rules.Policy] }

func (r *rights) allow(a registry.Actor, repo registry.Name, act registry.Actions) error {
	return r.allowRef(a, repo, registry.Reference{}, act)
}

func (r *rights) allowRef(a registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) error {
	return r.policy.Load().Allow(a, repo, ref, act)
}

func (r *rights) conditional(repo registry.Name) bool { return r.policy.Load().Conditional(repo) }

func (r *rights) detectsCollision(a registry.Actor, repo registry.Name) bool {
	return r.policy.Load().DetectsCollision(a, repo)
}

func (r *rights) viewer(a registry.Actor) viewer { return r.policy.Load().Viewer(a) }

// viewer says which names an actor may see.
type viewer interface {
	// Sees reports whether a name may be seen.
	Sees(repo registry.Name) bool
	// Next returns the first name at or behind from that may be seen, as far as that is
	// known without looking; not ok if there is none.
	Next(from registry.Name) (at registry.Name, ok bool)
}

// SetAccess replaces who may do what, for all requests that come from now on. nil
// lets everybody do everything.
func (c *Catalog) SetAccess(p *rules.Policy) { c.rights.policy.Store(p) }

// Allowed implements [registry.Access].
func (c *Catalog) Allowed(ctx context.Context, a registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	return c.rights.policy.Load().Allowed(a, repo, want), ctx.Err()
}

// AccessRules implements [registry.Access].
func (c *Catalog) AccessRules(ctx context.Context, a registry.Actor) (*registry.AccessRules, error) {
	p := c.rights.policy.Load()
	if err := p.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return nil, err
	}
	return p.Rules(), ctx.Err()
}

// ExplainAccess implements [registry.Access].
func (c *Catalog) ExplainAccess(ctx context.Context, a, whom registry.Actor, repo registry.Name, ref registry.Reference, act registry.Actions) (registry.AccessDecision, error) {
	d, err := c.rights.policy.Load().ExplainTo(a, whom, repo, ref, act)
	if err == nil {
		err = ctx.Err()
	}
	return d, err
}

// ReviewAccess implements [registry.Access].
func (c *Catalog) ReviewAccess(ctx context.Context, a registry.Actor, r *registry.AccessRules) (registry.AccessReview, error) {
	return rules.Review(ctx, c, a, c.rights.policy.Load(), r, c.conditions)
}
