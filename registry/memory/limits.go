package memory

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
)

// readOnly are repositories that nobody may change.
type readOnly struct {
	registry.ReadOnly
	pattern *glob.Pattern
}

// ReadOnlys implements [registry.Limits].
func (c *Catalog) ReadOnlys(ctx context.Context, a registry.Actor) ([]registry.ReadOnly, error) {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var all []registry.ReadOnly
	for _, r := range c.frozen {
		all = append(all, r.ReadOnly)
	}
	slices.SortFunc(all, func(a, b registry.ReadOnly) int { return strings.Compare(a.Repositories, b.Repositories) })
	return all, nil
}

// SetReadOnly implements [registry.Limits].
func (c *Catalog) SetReadOnly(ctx context.Context, a registry.Actor, r registry.ReadOnly) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	p, err := glob.Compile(r.Repositories)
	if err != nil {
		return registry.ErrParameterInvalid.With("repositories: %v", err)
	}
	if len(r.Reason) > registry.MaxReason {
		return registry.ErrTooLarge.With("a reason has at most %d bytes", registry.MaxReason)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, ok := c.frozen[r.Repositories]; !ok && len(c.frozen) >= registry.MaxReadOnlys {
		return registry.ErrTooLarge.With("there are %d patterns already", registry.MaxReadOnlys)
	}
	r.Actor, r.Since = a.ID, time.Now().UnixMicro()
	c.frozen[r.Repositories] = readOnly{r, p}
	return nil
}

// ClearReadOnly implements [registry.Limits].
func (c *Catalog) ClearReadOnly(ctx context.Context, a registry.Actor, repositories string) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	delete(c.frozen, repositories)
	return nil
}

// change takes c.mu to change repo, which must not be read-only.
func (c *Catalog) change(ctx context.Context, repo registry.Name) error {
	if err := c.lock(ctx); err != nil {
		return err
	}
	for _, r := range c.frozen {
		if r.pattern.Match(string(repo)) {
			c.mu.Unlock()
			return registry.ErrUnsupported.With("the repository is read-only: %s (%s)", r.Repositories, r.Reason)
		}
	}
	return nil
}

// Usage implements [registry.Limits].
func (c *Catalog) Usage(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Usage, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return registry.Usage{}, err
	}
	if err := c.lock(ctx); err != nil {
		return registry.Usage{}, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return registry.Usage{}, err
	}
	var u registry.Usage
	for _, m := range r.manifests {
		u.Manifests++
		u.Logical += int64(len(m.bytes))
		u.Unique += int64(len(m.bytes)) // each repository has its own
	}
	for d, b := range r.links {
		u.Blobs++
		if _, ok := r.manifests[d]; ok {
			continue
		}
		u.Logical += b.Size
		if !c.elsewhere(repo, d) {
			u.Unique += b.Size
		}
	}
	return u, nil
}

// elsewhere reports whether another repository links d. c.mu must be held.
func (c *Catalog) elsewhere(repo registry.Name, d registry.Digest) bool {
	for name, r := range c.repos {
		if _, ok := r.links[d]; ok && name != repo {
			return true
		}
	}
	return false
}
