package metadata

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// ReadManifest reads a manifest from the database, whatever the cache has.
func ReadManifest(c *Catalog, ctx context.Context, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	return c.readManifest(ctx, repo, q)
}
