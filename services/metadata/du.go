package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	// Links to manifests of the repository, which were mounted, count as those.
	sqlDuLinks = `
		SELECT l.digest, b.size,
			(SELECT 1 FROM links o WHERE o.digest = l.digest AND o.pool = l.pool AND o.repo_id <> l.repo_id LIMIT 1) IS NOT NULL,
			(SELECT 1 FROM manifests m WHERE m.repo_id = l.repo_id AND m.digest = l.digest) IS NOT NULL
		FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest
		WHERE l.repo_id = $1 AND l.digest > $2 ORDER BY l.digest LIMIT $3`
	sqlDuManifests = `SELECT digest, size FROM manifests WHERE repo_id = $1 AND digest > $2 ORDER BY digest LIMIT $3`
)

// Usage counts what repo has, a page of rows at a time.
func (c *Catalog) Usage(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Usage, error) {
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return registry.Usage{}, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return registry.Usage{}, err
	}
	var u registry.Usage
	err = c.count(ctx, sqlDuLinks, id, func(rows *sqldb.Rows, digest *[]byte) error {
		var size int64
		var shared, manifest bool
		if err := rows.Scan(digest, &size, &shared, &manifest); err != nil {
			return err
		}
		u.Blobs++
		if manifest {
			return nil
		}
		u.Logical += size
		if !shared {
			u.Unique += size
		}
		return nil
	})
	if err != nil {
		return registry.Usage{}, err
	}
	err = c.count(ctx, sqlDuManifests, id, func(rows *sqldb.Rows, digest *[]byte) error {
		var size int64
		err := rows.Scan(digest, &size)
		u.Manifests++
		u.Logical += size
		u.Unique += size // each repository has its own
		return err
	})
	return u, err
}

// count visits the rows that a query finds for a repository, in the order of the
// digest, which visit reads.
func (c *Catalog) count(ctx context.Context, query string, id int64, visit func(*sqldb.Rows, *[]byte) error) error {
	for last := []byte{}; ; {
		n, err := c.page(ctx, query, []any{id, last, factsPage}, func(rows *sqldb.Rows) error { return visit(rows, &last) })
		if err != nil {
			return fmt.Errorf("counting what a repository has: %w", err)
		}
		if n < factsPage {
			return nil
		}
	}
}
