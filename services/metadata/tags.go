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
	sqlTags       = `SELECT name FROM tags WHERE repo_id = $1 AND name > $2 ORDER BY name LIMIT $3`
	sqlTagHistory = `SELECT at, actor, digest FROM tag_history WHERE repo_id = $1 AND name = $2 ORDER BY number DESC LIMIT $3`
)

// Tags lists the tags of repo.
func (c *Catalog) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	none := registry.List[registry.Tag]{}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return none, err
	}
	rows, err := c.db.Query(ctx, sqlTags, id, string(p.After), limit+1)
	if err != nil {
		return none, fmt.Errorf("listing tags: %w", err)
	}
	defer rows.Close()
	var list registry.List[registry.Tag]
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			return none, fmt.Errorf("listing tags: %w", err)
		}
		if len(list.Items) == limit {
			list.More = true
			break
		}
		list.Items = append(list.Items, registry.Tag(n))
	}
	if err := rows.Err(); err != nil {
		return none, fmt.Errorf("listing tags: %w", err)
	}
	return list, nil
}

// TagHistory lists what became of a tag, the latest change first.
func (c *Catalog) TagHistory(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, limit int) ([]registry.TagChange, error) {
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return nil, err
	}
	if limit < 1 || limit > 1000 {
		return nil, registry.ErrPageInvalid.With("a history has 1 to 1000 entries")
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return nil, err
	}
	rows, err := c.db.Query(ctx, sqlTagHistory, id, string(t), limit)
	if err != nil {
		return nil, fmt.Errorf("reading a tag's history: %w", err)
	}
	defer rows.Close()
	var all []registry.TagChange
	for rows.Next() {
		var ch registry.TagChange
		var d []byte
		if err := rows.Scan(&ch.At, &ch.Actor, &d); err != nil {
			return nil, fmt.Errorf("reading a tag's history: %w", err)
		}
		if d != nil {
			if ch.Digest, err = unpack(d); err != nil {
				return nil, err
			}
		}
		all = append(all, ch)
	}
	return all, rows.Err()
}

const (
	sqlTag       = `SELECT digest FROM tags WHERE repo_id = $1 AND name = $2`
	sqlSetTag    = `INSERT INTO tags (repo_id, name, digest) VALUES ($1, $2, $3) ON CONFLICT (repo_id, name) DO UPDATE SET digest = excluded.digest`
	sqlDeleteTag = `DELETE FROM tags WHERE repo_id = $1 AND name = $2`

	// The clock may have been set back.
	sqlAddChange = `
		INSERT INTO tag_history (repo_id, name, number, at, actor, digest)
		VALUES ($1, $2,
			COALESCE((SELECT number FROM tag_history WHERE repo_id = $1 AND name = $2 ORDER BY number DESC LIMIT 1), 0) + 1,
			COALESCE((SELECT CASE WHEN at > $3 THEN at ELSE $3 END FROM tag_history WHERE repo_id = $1 AND name = $2 ORDER BY number DESC LIMIT 1), $3),
			$4, $5)`
)

// DeleteTag removes a tag; the manifest stays.
func (c *Catalog) DeleteTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, cond registry.Condition) error {
	return c.deleteTag(ctx, a, repo, t, func(_ *sqldb.Tx, _ int64, old []byte) error { return holds(cond, old) })
}

// deleteTag removes a tag that may tells nothing against, given what it points to.
func (c *Catalog) deleteTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, may func(tx *sqldb.Tx, id int64, old []byte) error) error {
	if err := c.allowDelete(a, repo, registry.Reference{Tag: t}); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(append([]sqldb.Lock{usesRepo(repo)}, decidesTags(repo, t)...)...); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		old, err := tagDigest(tx, id, t)
		if err != nil {
			return err
		}
		if old == nil {
			return registry.ErrManifestUnknown
		}
		if err := may(tx, id, old); err != nil {
			return err
		}
		if err := c.limits().keepsTag(repo, t); err != nil {
			return err
		}
		if err := c.removeTag(tx, id, t, a); err != nil {
			return err
		}
		ch := c.change()
		if err := c.untagged(tx, ch, id, repo, old); err != nil {
			return err
		}
		ch.tags = append(ch.tags, rowKey{repo, string(t)})
		ch.attach(tx)
		return nil
	})
}

// untagged queues a look at a manifest that a tag does not point to any more.
func (c *Catalog) untagged(tx *sqldb.Tx, ch *change, id int64, repo registry.Name, old []byte) error {
	d, err := unpack(old)
	if err != nil {
		return err
	}
	ch.manifests = append(ch.manifests, rowKey{repo, string(d)})
	p := c.poolOf(repo)
	return c.review(tx, id, old, reviewManifest, p, c.undoable(p), c.dropped(p))
}

// removeTag removes a tag that exists.
func (c *Catalog) removeTag(tx *sqldb.Tx, id int64, t registry.Tag, a registry.Actor) error {
	if err := tx.Queue(sqlDeleteTag, id, string(t)); err != nil {
		return fmt.Errorf("removing a tag: %w", err)
	}
	return c.recordTag(tx, id, t, a, nil)
}

// setTag lets a tag point to another digest than before.
func (c *Catalog) setTag(tx *sqldb.Tx, id int64, t registry.Tag, a registry.Actor, d []byte) error {
	if err := tx.Queue(sqlSetTag, id, string(t), d); err != nil {
		return fmt.Errorf("setting a tag: %w", err)
	}
	return c.recordTag(tx, id, t, a, d)
}

// recordTag adds an entry to a tag's history; d is nil if the tag was removed.
func (c *Catalog) recordTag(tx *sqldb.Tx, id int64, t registry.Tag, a registry.Actor, d []byte) error {
	if err := tx.Queue(sqlAddChange, id, string(t), c.now(), a.ID, nullable(d)); err != nil {
		return fmt.Errorf("recording a tag's change: %w", err)
	}
	if err := tx.Queue(sqlAddTagEvent, id, string(t)); err != nil {
		return fmt.Errorf("recording an event: %w", err)
	}
	c.feed.told(1)
	return c.announceTag(tx, id, t, d, a)
}

// tagDigest returns the digest a tag points to, nil if there is no such tag.
func tagDigest(tx *sqldb.Tx, id int64, t registry.Tag) ([]byte, error) {
	var d []byte
	err := tx.QueryRow(sqlTag, id, string(t)).Scan(&d)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("reading a tag: %w", err)
	}
	return d, nil
}

// holds returns nil if cond holds for a tag that points to old.
func holds(cond registry.Condition, old []byte) error {
	if cond.Absent && old != nil {
		return registry.ErrPreconditionFailed.With("the tag exists")
	}
	if cond.Match == "" {
		return nil
	}
	if old == nil {
		return registry.ErrPreconditionFailed.With("the tag does not exist")
	}
	d, err := unpack(old)
	if err == nil && d != cond.Match {
		return registry.ErrPreconditionFailed.With("the tag points to %s", d)
	}
	return err
}

// nullable returns b for a column that is NULL if b is nil: drivers write a nil
// slice as an empty value.
func nullable(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}
