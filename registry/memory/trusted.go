package memory

import (
	"context"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
)

// Trusted implements [registry.TrustStore].
func (c *Catalog) Trusted(ctx context.Context) ([]registry.TrustedKey, error) {
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return slices.Clone(c.trusted), nil
}

// AddTrusted implements [registry.TrustStore].
func (c *Catalog) AddTrusted(ctx context.Context, a registry.Actor, k registry.TrustedKey) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if len(k.PEM) > registry.MaxTrustedPEM {
		return registry.ErrTooLarge.With("a key has at most %d bytes", registry.MaxTrustedPEM)
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	k.ID, k.Actor = registry.TrustedID(k), a.ID
	i, found := slices.BinarySearchFunc(c.trusted, k.ID, func(k registry.TrustedKey, id string) int { return strings.Compare(k.ID, id) })
	switch {
	case found:
		return nil
	case len(c.trusted) >= registry.MaxTrusted:
		return registry.ErrTooLarge.With("there are %d keys already", len(c.trusted))
	}
	c.trusted = slices.Insert(c.trusted, i, k)
	return nil
}

// RemoveTrusted implements [registry.TrustStore].
func (c *Catalog) RemoveTrusted(ctx context.Context, a registry.Actor, id string) error {
	if err := c.options.Access.Allow(a, "", registry.Reference{}, registry.ActAdmin); err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.mu.Unlock()
	n := len(c.trusted)
	c.trusted = slices.DeleteFunc(c.trusted, func(k registry.TrustedKey) bool { return k.ID == id })
	if len(c.trusted) == n {
		return registry.ErrParameterInvalid.With("there is no such key")
	}
	return nil
}

// Parents implements [registry.TrustStore].
func (c *Catalog) Parents(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) ([]registry.Digest, error) {
	if err := c.options.Access.Allow(a, repo, registry.Reference{}, registry.ActRead); err != nil {
		return nil, err
	}
	if err := c.lock(ctx); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	r, err := c.repo(repo)
	if err != nil {
		return nil, err
	}
	var all []registry.Digest
	for digest, m := range r.manifests {
		for _, ref := range m.info.References {
			if ref.Manifest && ref.Digest == d && len(all) < registry.MaxParents {
				all = append(all, digest)
			}
		}
	}
	return all, nil
}
