package metadata

import (
	"bytes"
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlWasTag     = `SELECT 1 FROM tag_history WHERE repo_id = $1 AND name = $2 AND digest = $3 LIMIT 1`
	sqlLastChange = `SELECT at, actor FROM tag_history WHERE repo_id = $1 AND name = $2 ORDER BY number DESC LIMIT 1`
)

// RollbackTag lets a tag point to a digest again that is in its history.
func (c *Catalog) RollbackTag(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, to registry.Digest, cond registry.Condition) (registry.TagChange, error) {
	rights := c.mayTag(a, repo, t)
	if err := rights.either(); err != nil {
		return registry.TagChange{}, err
	}
	if err := c.allowGrowth(repo); err != nil {
		return registry.TagChange{}, err
	}
	digest, err := pack(to)
	if err != nil {
		return registry.TagChange{}, err
	}
	change := registry.TagChange{Digest: to}
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
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
		if err := rights.may(old != nil); err != nil {
			return err
		}
		if err := holds(cond, old); err != nil {
			return err
		}
		for _, need := range []struct {
			query string
			args  []any
		}{{sqlWasTag, []any{id, string(t), digest}}, {sqlHasManifest, []any{id, digest}}} {
			if there, err := exists(tx.QueryRow(need.query, need.args...)); err != nil {
				return err
			} else if !there {
				return registry.ErrManifestUnknown
			}
		}
		if !bytes.Equal(old, digest) {
			if err := c.pointBack(tx, id, repo, t, a, old, digest); err != nil {
				return err
			}
		}
		if err := tx.QueryRow(sqlLastChange, id, string(t)).Scan(&change.At, &change.Actor); err != nil {
			return fmt.Errorf("reading a tag's last change: %w", err)
		}
		return nil
	})
	if err != nil {
		return registry.TagChange{}, err
	}
	return change, nil
}

// pointBack lets a tag that points to old, nil if there is none, point to digest.
func (c *Catalog) pointBack(tx *sqldb.Tx, id int64, repo registry.Name, t registry.Tag, a registry.Actor, old, digest []byte) error {
	ch := c.change()
	if old != nil {
		if err := c.limits().keepsTag(repo, t); err != nil {
			return err
		}
		if err := c.untagged(tx, ch, id, repo, old); err != nil {
			return err
		}
		if err := c.auditMove(tx, a, repo, t, old, digest); err != nil {
			return err
		}
	}
	if err := c.setTag(tx, id, t, a, digest); err != nil {
		return err
	}
	ch.tags = append(ch.tags, rowKey{repo, string(t)})
	ch.attach(tx)
	return nil
}
