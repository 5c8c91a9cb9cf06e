package memory

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// Allowed implements [registry.Access].
func (c *Catalog) Allowed(ctx context.Context, a registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	return c.options.Access.Allowed(a, repo, want), ctx.Err()
}
