package metadata

import (
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// EventKind says what an [Event] is about.
type EventKind string

// The kinds of events, and which fields of the event they have besides At, Actor,
// RepoID and Repo.
const (
	// RepositoryMade is told at least once, before or after the first content.
	RepositoryMade EventKind = "repository"
	// RepositoryDeleted: all that is in it is gone, too. If it comes back, that is
	// told as if it were made and filled anew.
	RepositoryDeleted EventKind = "repository-deleted"
	// ManifestStored has Digest.
	ManifestStored EventKind = "manifest"
	// ManifestDeleted has Digest. Its tags were removed before.
	ManifestDeleted EventKind = "manifest-deleted"
	// TagChanged has Name, Number (of the entry in the tag's history), and Digest,
	// which is "" if the tag was removed.
	TagChanged EventKind = "tag"
	// BlobLinked has Digest, Pool, Locator and Size. Locator is "" for a manifest
	// that was mounted as a blob.
	BlobLinked EventKind = "link"
	// BlobUnlinked has Digest.
	BlobUnlinked EventKind = "unlink"
	// CopyReplaced has Digest, Pool, Locator and Size, and no repository: another
	// copy of a blob is used from now on.
	CopyReplaced EventKind = "copy"
	// KeyMade has Name: a new key for upload tokens.
	KeyMade EventKind = "key"
)

const (
	// For what happens in a repository that is known by its identity.
	sqlAddEvent = `
		INSERT INTO events (kind, at, actor, repo_id, repo, digest)
		SELECT $2, $3, $4, r.id, r.name, $5 FROM repositories r WHERE r.id = $1`
	// The last entry of a tag's history.
	sqlAddTagEvent = `
		INSERT INTO events (kind, at, actor, repo_id, repo, name, digest, number)
		SELECT 'tag', h.at, h.actor, r.id, r.name, h.name, h.digest, h.number
		FROM tag_history h JOIN repositories r ON r.id = h.repo_id
		WHERE h.repo_id = $1 AND h.name = $2 ORDER BY h.number DESC LIMIT 1`
	// Before a blob is linked that is not linked yet. A repository without content
	// was made just now, or was emptied. $6 says that the blob is being mounted: it
	// may be a manifest, and who made the repository has told so.
	sqlAddLinkEvents = `
		INSERT INTO events (kind, at, actor, repo_id, repo, digest, pool, locator, size)
		SELECT 'repository', CAST($4 AS BIGINT), $5, r.id, r.name, CAST(NULL AS BYTEA), NULL, NULL, CAST(NULL AS BIGINT)
		FROM repositories r WHERE r.name = $1 AND NOT $6
		AND NOT EXISTS (SELECT 1 FROM links l WHERE l.repo_id = r.id) AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repo_id = r.id)
		UNION ALL
		SELECT 'link', CAST($4 AS BIGINT), $5, r.id, r.name, b.digest, b.pool, b.locator, b.size
		FROM repositories r JOIN blobs b ON b.pool = $2 AND b.digest = $3
		WHERE r.name = $1 AND (b.inline IS NULL OR $6)
		AND NOT EXISTS (SELECT 1 FROM links l WHERE l.repo_id = r.id AND l.digest = b.digest AND l.pool = b.pool)`
	sqlAddCopyEvent = `
		INSERT INTO events (kind, at, actor, digest, pool, locator, size) VALUES ('copy', $1, '', $2, $3, $4, $5)`
	sqlAddKeyEvent = `INSERT INTO events (kind, at, actor, name) VALUES ('key', $1, '', $2)`
)

// tell records an event of a repository. digest is nil if it has none.
func (c *Catalog) tell(tx *sqldb.Tx, kind EventKind, id int64, a registry.Actor, digest []byte) error {
	if err := tx.Queue(sqlAddEvent, id, string(kind), c.now(), a.ID, nullable(digest)); err != nil {
		return fmt.Errorf("recording an event: %w", err)
	}
	c.feed.told(1)
	return nil
}

// linkEvents is the statement that records that the copy of digest in pool will be
// linked to repo, unless it is already, by a mount or an upload.
func (c *Catalog) linkEvents(repo registry.Name, pool registry.Pool, digest []byte, a registry.Actor, mount bool) sqldb.Statement {
	c.feed.told(1)
	return sqldb.Statement{Text: sqlAddLinkEvents, Args: []any{string(repo), string(pool), digest, c.now(), a.ID, mount}}
}
