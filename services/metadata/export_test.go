package metadata

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// ReadManifest reads a manifest from the database, whatever the cache has.
func ReadManifest(c *Catalog, ctx context.Context, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	return c.readManifest(ctx, repo, q)
}

// MovedColumns are the columns that a [Move] copies.
func MovedColumns() []string {
	var all []string
	for _, t := range movedTables {
		for _, c := range t.columns {
			all = append(all, t.name+"."+c.name)
		}
	}
	return all
}

// StaysBehind are the tables that belong to one database alone.
var StaysBehind = []string{"schema_versions", "schema_programs", "moves", "moved_blobs"}
