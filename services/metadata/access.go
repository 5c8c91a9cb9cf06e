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

// SetAccess replaces who may do what, for all requests that come from now on. nil
// lets everybody do everything.
func (c *Catalog) SetAccess(p *rules.Policy) { c.rights.policy.Store(p) }

// Allowed implements [registry.Access].
func (c *Catalog) Allowed(ctx context.Context, a registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	return c.rights.policy.Load().Allowed(a, repo, want), ctx.Err()
}
