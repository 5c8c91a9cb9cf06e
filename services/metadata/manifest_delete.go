package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlIsReferenced     = `SELECT 1 FROM manifest_references WHERE repo_id = $1 AND digest = $2 LIMIT 1`
	sqlTagsOf           = `SELECT name FROM tags WHERE repo_id = $1 AND digest = $2 ORDER BY name`
	sqlDeleteReferences = `DELETE FROM manifest_references WHERE repo_id = $1 AND manifest = $2`
	sqlDeleteManifest   = `DELETE FROM manifests WHERE repo_id = $1 AND digest = $2`
)

// DeleteManifest removes a manifest and all tags that point to it.
func (c *Catalog) DeleteManifest(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.access.allow(a, repo, actDelete); err != nil {
		return err
	}
	digest, err := pack(d)
	if err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		if has, err := exists(tx.QueryRow(sqlHasManifest, id, digest)); err != nil {
			return err
		} else if !has {
			return registry.ErrManifestUnknown
		}
		if used, err := exists(tx.QueryRow(sqlIsReferenced, id, digest)); err != nil {
			return err
		} else if used {
			return registry.ErrInUse
		}
		ch := c.change()
		ch.manifests = append(ch.manifests, rowKey{repo, string(d)})
		tags, err := tagsOf(tx, id, digest)
		if err != nil {
			return err
		}
		for _, t := range tags {
			if err := c.removeTag(tx, id, t, a); err != nil {
				return err
			}
			ch.tags = append(ch.tags, rowKey{repo, string(t)})
		}
		for _, s := range []string{sqlDeleteReferences, sqlDeleteManifest} {
			if _, err := tx.Exec(s, id, digest); err != nil {
				return fmt.Errorf("removing a manifest: %w", err)
			}
		}
		ch.attach(tx)
		return nil
	})
}

func tagsOf(tx *sqldb.Tx, id int64, digest []byte) ([]registry.Tag, error) {
	rows, err := tx.Query(sqlTagsOf, id, digest)
	if err != nil {
		return nil, fmt.Errorf("reading a manifest's tags: %w", err)
	}
	defer rows.Close()
	var tags []registry.Tag
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return nil, fmt.Errorf("reading a manifest's tags: %w", err)
		}
		tags = append(tags, registry.Tag(n))
	}
	return tags, rows.Err()
}
