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
	sqlIsInhabited = `
		SELECT EXISTS (SELECT 1 FROM manifests WHERE repo_id = $1) OR EXISTS (SELECT 1 FROM links WHERE repo_id = $1)
			OR EXISTS (SELECT 1 FROM trash WHERE repo_id = $1)`
	sqlSomeHistory  = `SELECT name, number FROM tag_history WHERE repo_id = $1 ORDER BY name, number LIMIT $2`
	sqlNoHistory    = `DELETE FROM tag_history WHERE repo_id = $1 AND name = $2 AND number = $3`
	sqlSomePulls    = `SELECT digest, tag FROM pulls WHERE repo_id = $1 ORDER BY digest, tag LIMIT $2`
	sqlNoPulls      = `DELETE FROM pulls WHERE repo_id = $1 AND digest = $2 AND tag = $3`
	sqlForgetRepo   = `DELETE FROM repositories WHERE id = $1`
	sqlUsedID       = `INSERT INTO repository_ids (one, last) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET last = excluded.last WHERE repository_ids.last < excluded.last`
	sqlForgetLikes  = `DELETE FROM preferences WHERE repo_id = $1`
	sqlNotCounted   = `DELETE FROM quota_repositories WHERE quota = $1 AND repo_id = $2`
	sqlForgetGone   = `DELETE FROM deleted_repositories WHERE id = $1`
	sqlEndGone      = `UPDATE deleted_repositories SET until = 0 WHERE id = $1`
	sqlDeletedUntil = `SELECT name, until FROM deleted_repositories WHERE id = $1`
	sqlNoTagsOf     = `DELETE FROM tags WHERE repo_id = $1 AND digest = $2`

	sqlSomeManifests = `SELECT digest FROM manifests WHERE repo_id = $1 ORDER BY digest LIMIT $2`
	sqlSomeLinks     = `SELECT digest FROM links WHERE repo_id = $1 ORDER BY digest LIMIT $2`
	sqlSomeTrash     = `SELECT digest FROM trash WHERE repo_id = $1 ORDER BY digest LIMIT $2`
	sqlSomeReviews   = `SELECT digest, kind, pool FROM reviews WHERE repo_id = $1 AND kind <> 4 ORDER BY digest LIMIT $2`
	sqlForgetReview  = `DELETE FROM reviews WHERE repo_id = $1 AND digest = $2 AND kind = $3 AND pool = $4`
)

// chunk is how many rows of a repository one transaction removes.
const chunk = 200

// decideRepository removes a repository that has nothing any more, or a part of
// one that was deleted and can't be restored any more.
func (c *Catalog) decideRepository(ctx context.Context, d due, sum *Collected) error {
	var name registry.Name
	err := c.db.QueryRow(ctx, sqlRepoName, d.repoID).Scan(&name)
	if errors.Is(err, sql.ErrNoRows) {
		return c.dismantle(ctx, d, sum)
	}
	if err != nil {
		return fmt.Errorf("reading a repository's name: %w", err)
	}
	gone := false
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		gone = false
		if err := tx.Lock(removesFrom(name)); err != nil {
			return err
		}
		now := c.now()
		if err := tx.Queue(sqlReviewOver, d.repoID, noDigest, reviewRepository, string(d.pool), now); err != nil {
			return err
		}
		// It may have been deleted meanwhile.
		if id, err := repoID(tx, name); errors.Is(err, registry.ErrNameUnknown) || err == nil && id != d.repoID {
			return c.review(tx, d.repoID, noDigest, reviewRepository, d.pool, now, 0)
		} else if err != nil {
			return err
		}
		var inhabited bool
		if err := tx.QueryRow(sqlIsInhabited, d.repoID).Scan(&inhabited); err != nil || inhabited {
			return err
		}
		more, err := forgetPast(tx, d.repoID)
		if err != nil {
			return err
		}
		if more {
			return c.review(tx, d.repoID, noDigest, reviewRepository, d.pool, now, 0)
		}
		gone = true
		ch := c.change()
		ch.all = true
		ch.attach(tx)
		if err := c.tell(tx, RepositoryDeleted, d.repoID, collectorActor, nil); err != nil {
			return err
		}
		return errors.Join(tx.Queue(sqlForgetRepo, d.repoID), c.endIdentity(tx, d.repoID, name))
	})
	if err == nil && gone {
		sum.Repositories++
	}
	return err
}

// endIdentity removes what is known by the identity of a repository that has nothing
// any more, and lets no other have it.
func (c *Catalog) endIdentity(tx *sqldb.Tx, id int64, name registry.Name) error {
	err := errors.Join(tx.Queue(sqlUsedID, id), tx.Queue(sqlForgetLikes, id))
	for _, q := range c.limits().quotasOf(name) {
		err = errors.Join(err, tx.Queue(sqlNotCounted, q.name(), id))
	}
	return err
}

// forgetPast removes a part of what is left of an empty repository, and says
// whether there is more.
func forgetPast(tx *sqldb.Tx, id int64) (more bool, err error) {
	if more, err := forgetHistory(tx, id); err != nil || more {
		return more, err
	}
	type pull struct {
		digest []byte
		tag    string
	}
	var all []pull
	err = tx.Run(sqldb.Statement{Text: sqlSomePulls, Args: []any{id, chunk}, Row: func(scan func(dest ...any) error) error {
		var p pull
		err := scan(&p.digest, &p.tag)
		all = append(all, p)
		return err
	}})
	for _, p := range all {
		err = errors.Join(err, tx.Queue(sqlNoPulls, id, p.digest, p.tag))
	}
	return len(all) == chunk, err
}

// forgetHistory removes a part of the histories of a repository's tags.
func forgetHistory(tx *sqldb.Tx, id int64) (more bool, err error) {
	type entry struct {
		tag    string
		number int64
	}
	var all []entry
	err = tx.Run(sqldb.Statement{Text: sqlSomeHistory, Args: []any{id, chunk}, Row: func(scan func(dest ...any) error) error {
		var e entry
		err := scan(&e.tag, &e.number)
		all = append(all, e)
		return err
	}})
	for _, e := range all {
		err = errors.Join(err, tx.Queue(sqlNoHistory, id, e.tag, e.number))
	}
	return len(all) == chunk, err
}

// dismantle removes a part of a deleted repository, if that can't be undone any
// more. It stays queued until nothing is left.
func (c *Catalog) dismantle(ctx context.Context, d due, sum *Collected) error {
	var name registry.Name
	var until int64
	err := c.db.QueryRow(ctx, sqlDeletedUntil, d.repoID).Scan(&name, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return c.passOver(ctx, []due{d})
	}
	if err != nil {
		return fmt.Errorf("reading a deleted repository: %w", err)
	}
	var done Collected
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		done = Collected{}
		if err := tx.Lock(append([]sqldb.Lock{removesFrom(name)}, c.limits().quotaLocks(name)...)...); err != nil {
			return err
		}
		now := c.now()
		err := tx.QueryRow(sqlDeletedUntil, d.repoID).Scan(&name, &until)
		switch {
		case errors.Is(err, sql.ErrNoRows): // restored or gone: somebody looks again
			return nil
		case err != nil:
			return err
		case until > now:
			return tx.Queue(sqlReviewLater, d.repoID, noDigest, reviewRepository, string(d.pool), until)
		}
		return c.dismantleSome(tx, name, d, now, &done)
	})
	if err == nil {
		sum.add(done)
	}
	return err
}

func (c *Catalog) dismantleSome(tx *sqldb.Tx, name registry.Name, d due, now int64, done *Collected) error {
	if err := tx.Queue(sqlEndGone, d.repoID); err != nil { // no way back from here
		return err
	}
	if all, err := someDigests(tx, sqlSomeManifests, d.repoID); err != nil || len(all) > 0 {
		for _, digest := range all {
			for _, s := range []string{sqlNoTagsOf, sqlDeleteReferences, sqlDeleteManifest, sqlNotCached} {
				err = errors.Join(err, tx.Queue(s, d.repoID, digest))
			}
			err = errors.Join(err, c.discharge(tx, d.repoID, name, digest))
			done.Manifests++
		}
		return err
	}
	if all, err := someDigests(tx, sqlSomeTrash, d.repoID); err != nil || len(all) > 0 {
		for _, digest := range all {
			err = errors.Join(err, forget(tx, d.repoID, digest))
		}
		return err
	}
	if all, err := someDigests(tx, sqlSomeLinks, d.repoID); err != nil || len(all) > 0 {
		for _, digest := range all {
			err = errors.Join(err, tx.Queue(sqlReviewBlobOf, d.repoID, digest, now), tx.Queue(sqlUnlink, d.repoID, digest), c.discharge(tx, d.repoID, name, digest))
			done.Links++
		}
		return err
	}
	if more, err := forgetPast(tx, d.repoID); err != nil || more {
		return err
	}
	if more, err := forgetReviews(tx, d.repoID); err != nil || more {
		return err
	}
	done.Repositories++
	return errors.Join(
		tx.Queue(sqlForgetGone, d.repoID), c.endIdentity(tx, d.repoID, name),
		tx.Queue(sqlReviewOver, d.repoID, noDigest, reviewRepository, string(d.pool), now))
}

// forgetReviews removes a part of a repository's reviews.
func forgetReviews(tx *sqldb.Tx, id int64) (more bool, err error) {
	var all []due
	err = tx.Run(sqldb.Statement{Text: sqlSomeReviews, Args: []any{id, chunk}, Row: func(scan func(dest ...any) error) error {
		var r due
		err := scan(&r.packed, &r.kind, &r.pool)
		all = append(all, r)
		return err
	}})
	for _, r := range all {
		err = errors.Join(err, tx.Queue(sqlForgetReview, id, r.packed, r.kind, string(r.pool)))
	}
	return len(all) > 0, err
}

func someDigests(tx *sqldb.Tx, query string, id int64) ([][]byte, error) {
	var all [][]byte
	err := tx.Run(sqldb.Statement{Text: query, Args: []any{id, chunk}, Row: func(scan func(dest ...any) error) error {
		var d []byte
		err := scan(&d)
		all = append(all, d)
		return err
	}})
	return all, err
}

// emptyTrash removes deleted manifests that can't be restored any more, and
// returns how many.
func (c *Catalog) emptyTrash(ctx context.Context) (int64, error) {
	over, err := c.trashOver(ctx)
	if err != nil || len(over) == 0 {
		return 0, err
	}
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(c.repositoriesOf(over)...); err != nil {
			return err
		}
		now := c.now()
		for _, d := range over {
			// It may have been restored, and deleted again.
			var until int64
			err := tx.QueryRow(sqlTrashUntil, d.repoID, d.packed).Scan(&until)
			if errors.Is(err, sql.ErrNoRows) || err == nil && until > now {
				continue
			}
			if err != nil {
				return err
			}
			if err := forget(tx, d.repoID, d.packed); err != nil {
				return err
			}
			if err := c.review(tx, d.repoID, noDigest, reviewRepository, c.poolOf(d.repo), now, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("emptying the trash: %w", err)
	}
	return int64(len(over)), nil
}

const sqlTrashUntil = `SELECT until FROM trash WHERE repo_id = $1 AND digest = $2`

func (c *Catalog) trashOver(ctx context.Context) ([]due, error) {
	rows, err := c.db.Query(ctx, sqlTrashOver, c.now(), reviewBatch)
	if err != nil {
		return nil, fmt.Errorf("reading the trash: %w", err)
	}
	defer rows.Close()
	var all []due
	for rows.Next() {
		d := due{}
		var name sql.NullString
		if err := rows.Scan(&d.repoID, &d.packed, &name); err != nil {
			return nil, fmt.Errorf("reading the trash: %w", err)
		}
		d.repo = registry.Name(name.String)
		all = append(all, d)
	}
	return all, rows.Err()
}
