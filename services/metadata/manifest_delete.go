package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlPayload          = `SELECT payload FROM manifests WHERE repo_id = $1 AND digest = $2`
	sqlIsReferenced     = `SELECT 1 FROM manifest_references WHERE repo_id = $1 AND digest = $2 LIMIT 1`
	sqlTagsOf           = `SELECT name FROM tags WHERE repo_id = $1 AND digest = $2 ORDER BY name`
	sqlDeleteReferences = `DELETE FROM manifest_references WHERE repo_id = $1 AND manifest = $2`
	sqlDeleteManifest   = `DELETE FROM manifests WHERE repo_id = $1 AND digest = $2`
	sqlDigestsIn        = `SELECT digest FROM manifest_references WHERE repo_id = $1 AND manifest = $2`
	sqlDigestsAbout     = `SELECT digest FROM manifests WHERE repo_id = $1 AND subject = $2 ORDER BY digest`
)

// DeleteManifest removes a manifest under each of its names, and all tags that
// point to it.
func (c *Catalog) DeleteManifest(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.allowDelete(a, repo, registry.Reference{Digest: d}); err != nil {
		return err
	}
	detects := c.access.detectsCollision(a, repo)
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(append([]sqldb.Lock{removesFrom(repo)}, c.limits().quotaLocks(repo)...)...); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		names, err := namesOf(tx, id, d)
		if err != nil {
			return err
		}
		ch := c.change()
		tags := 0
		for _, n := range names {
			if detects {
				more, err := tagsOf(tx, id, n.packed)
				if err != nil {
					return err
				}
				if tags += len(more); tags > 1 {
					return registry.ErrManifestCollision
				}
			}
			if used, err := exists(tx.QueryRow(sqlIsReferenced, id, n.packed)); err != nil {
				return err
			} else if used {
				return registry.ErrInUse
			}
			ch.manifests = append(ch.manifests, rowKey{repo, string(n.digest)})
		}
		for _, n := range names {
			if err := c.discardManifest(tx, ch, id, repo, n.packed, a); err != nil {
				return err
			}
		}
		ch.attach(tx)
		return nil
	})
}

// discardManifest puts a manifest that nothing refers to into the trash and
// removes the tags that point to it.
func (c *Catalog) discardManifest(tx *sqldb.Tx, ch *change, id int64, repo registry.Name, digest []byte, a registry.Actor) error {
	tags, err := tagsOf(tx, id, digest)
	if err != nil {
		return err
	}
	name, err := unpack(digest)
	if err != nil {
		return err
	}
	conditional := c.access.conditional(repo)
	for _, t := range tags {
		if conditional {
			if err := c.access.allowRef(a, repo, registry.Reference{Tag: t, Digest: name}, registry.ActDelete); err != nil {
				return err
			}
		}
		if err := c.limits().keepsTag(repo, t); err != nil {
			return err
		}
		if err := c.removeTag(tx, id, t, a); err != nil {
			return err
		}
		ch.tags = append(ch.tags, rowKey{repo, string(t)})
	}
	until := c.undoable(c.poolOf(repo))
	if err := c.trash(tx, id, digest, tags, until, a); err != nil {
		return err
	}
	return c.removeManifest(tx, ch, id, repo, digest, until, a)
}

// removeManifest removes a manifest that nothing refers to. What it refers to
// is looked at when due.
func (c *Catalog) removeManifest(tx *sqldb.Tx, ch *change, id int64, repo registry.Name, digest []byte, due int64, a registry.Actor) error {
	if err := ch.around(tx, id, repo, digest); err != nil {
		return err
	}
	name, err := unpack(digest)
	if err != nil {
		return err
	}
	if err := c.announceManifest(tx, registry.ImageDeleted, id, string(name), digest, a); err != nil {
		return err
	}
	p := c.poolOf(repo)
	if err := c.reviewAround(tx, id, digest, p, due); err != nil {
		return err
	}
	for _, s := range []string{sqlDeleteReferences, sqlDeleteManifest, sqlNotCached} {
		if err := tx.Queue(s, id, digest); err != nil {
			return fmt.Errorf("removing a manifest: %w", err)
		}
	}
	if err := c.discharge(tx, id, repo, digest); err != nil {
		return err
	}
	if err := c.tell(tx, ManifestDeleted, id, a, digest); err != nil {
		return err
	}
	return c.review(tx, id, noDigest, reviewRepository, p, due, 0)
}

// around adds what a manifest refers to, and what refers to it: the caches may
// know that it needs no promise.
func (c *change) around(tx *sqldb.Tx, id int64, repo registry.Name, digest []byte) error {
	if !c.rows.on {
		return nil
	}
	var all []rowKey
	for _, q := range []string{sqlDigestsIn, sqlDigestsAbout} {
		err := tx.Run(sqldb.Statement{Text: q, Args: []any{id, digest}, Row: func(scan func(dest ...any) error) error {
			var packed []byte
			if err := scan(&packed); err != nil {
				return err
			}
			d, err := unpack(packed)
			all = append(all, rowKey{repo, string(d)})
			return err
		}})
		if err != nil {
			return fmt.Errorf("reading what a manifest is about: %w", err)
		}
	}
	c.blobs = append(c.blobs, all...)
	c.manifests = append(c.manifests, all...)
	return nil
}

// manifestName is a digest under which a repository has a manifest.
type manifestName struct {
	digest registry.Digest
	packed []byte
}

// namesOf returns the digests under which the repository has the bytes of
// manifest d, or [registry.ErrManifestUnknown].
func namesOf(tx *sqldb.Tx, id int64, d registry.Digest) ([]manifestName, error) {
	packed, err := pack(d)
	if err != nil {
		return nil, err
	}
	var payload []byte
	err = tx.QueryRow(sqlPayload, id, packed).Scan(&payload)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, registry.ErrManifestUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("reading a manifest to remove: %w", err)
	}
	names := []manifestName{{d, packed}}
	for _, alg := range []registry.Algorithm{registry.SHA256, registry.SHA512} {
		if alg == d.Algorithm() {
			continue
		}
		other := alg.FromBytes(payload)
		if packed, err = pack(other); err != nil {
			return nil, err
		}
		has, err := exists(tx.QueryRow(sqlHasManifest, id, packed))
		if err != nil {
			return nil, err
		}
		if has {
			names = append(names, manifestName{other, packed})
		}
	}
	return names, nil
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
