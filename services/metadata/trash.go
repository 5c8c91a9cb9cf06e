package metadata

import (
	"fmt"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlTrash = `
		INSERT INTO trash (repo_id, digest, media_type, pushed, payload, tags, deleted, until, actor)
		SELECT repo_id, digest, media_type, pushed, payload, $3, $4, $5, $6 FROM manifests WHERE repo_id = $1 AND digest = $2
		ON CONFLICT (repo_id, digest) DO UPDATE SET
			tags = excluded.tags, deleted = excluded.deleted, until = excluded.until, actor = excluded.actor`
	sqlTrashReferences = `
		INSERT INTO trash_references (repo_id, manifest, digest, is_manifest, required)
		SELECT repo_id, manifest, digest, is_manifest, required FROM manifest_references WHERE repo_id = $1 AND manifest = $2
		ON CONFLICT (repo_id, manifest, digest) DO NOTHING`

	sqlForgetTrashReferences = `DELETE FROM trash_references WHERE repo_id = $1 AND manifest = $2`
	sqlForgetTrash           = `DELETE FROM trash WHERE repo_id = $1 AND digest = $2`
	sqlTrashOver             = `
		SELECT t.repo_id, t.digest, COALESCE(r.name, g.name)
		FROM trash t LEFT JOIN repositories r ON r.id = t.repo_id LEFT JOIN deleted_repositories g ON g.id = t.repo_id
		WHERE t.until <= $1 ORDER BY t.until LIMIT $2`
)

// trash keeps a manifest that is about to be removed until a moment, together
// with the tags that pointed to it.
func (c *Catalog) trash(tx *sqldb.Tx, id int64, digest []byte, tags []registry.Tag, until int64, a registry.Actor) error {
	names := make([]string, len(tags))
	for i, t := range tags {
		names[i] = string(t)
	}
	if err := tx.Queue(sqlTrash, id, digest, strings.Join(names, "\n"), c.now(), until, a.ID); err != nil {
		return fmt.Errorf("keeping a deleted manifest: %w", err)
	}
	if err := tx.Queue(sqlTrashReferences, id, digest); err != nil {
		return fmt.Errorf("keeping a deleted manifest: %w", err)
	}
	return nil
}

// forget removes a manifest from the trash.
func forget(tx *sqldb.Tx, id int64, digest []byte) error {
	for _, s := range []string{sqlForgetTrashReferences, sqlForgetTrash} {
		if err := tx.Queue(s, id, digest); err != nil {
			return fmt.Errorf("removing a deleted manifest: %w", err)
		}
	}
	return nil
}
