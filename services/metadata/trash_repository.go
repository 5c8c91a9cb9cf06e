package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// A deleted repository keeps everything it has, under its identity. Only its name
// leads nowhere: all reads begin with that.
const (
	sqlDeleteRepo = `
		INSERT INTO deleted_repositories (id, name, created, deleted, until, actor)
		SELECT id, name, created, $2, $3, $4 FROM repositories WHERE id = $1`
	sqlLastDeleted = `
		SELECT id FROM deleted_repositories WHERE name = $1 AND until > $2 ORDER BY id DESC LIMIT 1`
	sqlRestoreRepo = `
		INSERT INTO repositories (name, id, created) SELECT name, id, created FROM deleted_repositories WHERE id = $1`
	sqlTellLinks = `
		INSERT INTO events (kind, at, actor, repo_id, repo, digest, pool, locator, size)
		SELECT 'link', CAST($2 AS BIGINT), $3, r.id, r.name, b.digest, b.pool, b.locator, b.size
		FROM repositories r JOIN links l ON l.repo_id = r.id JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE r.id = $1`
	sqlTellManifests = `
		INSERT INTO events (kind, at, actor, repo_id, repo, digest)
		SELECT 'manifest', CAST($2 AS BIGINT), $3, r.id, r.name, m.digest
		FROM repositories r JOIN manifests m ON m.repo_id = r.id WHERE r.id = $1 ORDER BY m.pushed`
	sqlTellTags = `
		INSERT INTO events (kind, at, actor, repo_id, repo, name, digest, number)
		SELECT 'tag', h.at, h.actor, r.id, r.name, h.name, h.digest, h.number
		FROM repositories r JOIN tags t ON t.repo_id = r.id JOIN tag_history h ON h.repo_id = t.repo_id AND h.name = t.name
			AND h.number = (SELECT MAX(n.number) FROM tag_history n WHERE n.repo_id = t.repo_id AND n.name = t.name)
		WHERE r.id = $1`
	sqlSomeTags = `SELECT name FROM tags WHERE repo_id = $1 AND name > $2 ORDER BY name LIMIT $3`
)

// DeleteRepository removes a repository with everything in it.
func (c *Catalog) DeleteRepository(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := c.allowChange(a, repo, registry.ActDelete); err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(removesFrom(repo)); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		if err := c.keepsNoTag(tx, id, repo, a); err != nil {
			return err
		}
		if err := c.tell(tx, RepositoryDeleted, id, a, nil); err != nil {
			return err
		}
		p := c.poolOf(repo)
		until := c.undoable(p)
		ch := c.change()
		ch.all = true
		ch.attach(tx)
		return errors.Join(
			tx.Queue(sqlDeleteRepo, id, c.now(), until, a.ID), tx.Queue(sqlForgetRepo, id), tx.Queue(sqlUsedID, id),
			c.review(tx, id, noDigest, reviewRepository, p, until, c.dropped(p)))
	})
}

// keepsNoTag returns an error if a tag of the repository must stay, or is one that a may
// not delete.
func (c *Catalog) keepsNoTag(tx *sqldb.Tx, id int64, repo registry.Name, a registry.Actor) error {
	if err := c.allowTags(tx, id, repo, a, registry.ActDelete); err != nil {
		return err
	}
	if len(c.limits().Immutable) == 0 {
		return nil
	}
	return eachTag(tx, id, func(t registry.Tag) error { return c.limits().keepsTag(repo, t) })
}

// allowTags returns an error if there is a tag of the repository that a may not do act
// to. Only conditions tell tags apart; where there are none, the right to the whole
// repository is one to its tags.
func (c *Catalog) allowTags(tx *sqldb.Tx, id int64, repo registry.Name, a registry.Actor, act registry.Actions) error {
	if !c.access.conditional(repo) {
		return nil
	}
	return eachTag(tx, id, func(t registry.Tag) error { return c.access.allowRef(a, repo, registry.Reference{Tag: t}, act) })
}

// eachTag calls f with the tags of a repository until it returns an error.
func eachTag(tx *sqldb.Tx, id int64, f func(registry.Tag) error) error {
	const page = 1000
	for last, n := "", page; n == page; {
		n = 0
		var refused error
		err := tx.Run(sqldb.Statement{Text: sqlSomeTags, Args: []any{id, last, page}, Row: func(scan func(dest ...any) error) error {
			n++
			err := scan(&last)
			if err == nil && refused == nil {
				refused = f(registry.Tag(last))
			}
			return err
		}})
		if err != nil || refused != nil {
			return errors.Join(err, refused)
		}
	}
	return nil
}

// undeleteRepository brings a deleted repository back, the one that was deleted last.
func (c *Catalog) undeleteRepository(tx *sqldb.Tx, a registry.Actor, repo registry.Name) error {
	locks := []sqldb.Lock{removesFrom(repo)}
	limited := c.limits().MaxRepos > 0
	if limited {
		locks = append(locks, countsRepos())
	}
	if err := tx.Lock(locks...); err != nil {
		return err
	}
	_, err := repoID(tx, repo)
	if err == nil {
		return registry.ErrPreconditionFailed.With("there is a repository of this name")
	}
	if !errors.Is(err, registry.ErrNameUnknown) {
		return err
	}
	var id int64
	err = tx.QueryRow(sqlLastDeleted, string(repo), c.now()).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return registry.ErrNameUnknown.With("no such repository was deleted, or it can't be restored any more")
	}
	if err != nil {
		return fmt.Errorf("looking for a deleted repository: %w", err)
	}
	if err := c.allowTags(tx, id, repo, a, registry.ActCreate); err != nil {
		return err
	}
	if limited {
		if err := c.limits().admitRepo(tx); err != nil {
			return err
		}
	}
	ch := c.change()
	ch.all = true
	ch.attach(tx)
	err = errors.Join(tx.Queue(sqlRestoreRepo, id), tx.Queue(sqlForgetGone, id), c.tell(tx, RepositoryMade, id, a, nil))
	for _, s := range []string{sqlTellLinks, sqlTellManifests} {
		err = errors.Join(err, tx.Queue(s, id, c.now(), a.ID))
	}
	return errors.Join(err, tx.Queue(sqlTellTags, id))
}

const (
	sqlPurgeTrash   = `UPDATE trash SET until = 0 WHERE repo_id = $1`
	sqlPurgeReviews = `UPDATE reviews SET due = lease WHERE repo_id = $1 AND due > lease AND kind <> 3`
	sqlDeletedRepos = `SELECT id, name FROM deleted_repositories WHERE name = $1 ORDER BY id`
	sqlAllDeleted   = `SELECT id, name FROM deleted_repositories WHERE id > $1 ORDER BY id LIMIT $2`

	// Of blobs that are not condemned yet: the fence is for requests in progress.
	sqlPurgeBlobs = `UPDATE reviews SET due = lease WHERE repo_id = 0 AND digest = $1 AND kind = 3 AND epoch = 0 AND due > lease`
	sqlSomeBlobs  = `SELECT digest FROM reviews WHERE repo_id = 0 AND digest > $1 AND kind = 3 ORDER BY digest LIMIT $2`
)

// Purge ends the undo window of repo, or of everything.
func (c *Catalog) Purge(ctx context.Context, a registry.Actor, repo registry.Name) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	if repo != "" {
		if err := c.readOnly(repo); err != nil {
			return err
		}
		return c.purge(ctx, repo)
	}
	for after := registry.Name(""); ; {
		names, err := c.repoNames(ctx, sqlRepos, after, sweepPage)
		if err != nil {
			return fmt.Errorf("listing repositories: %w", err)
		}
		for _, n := range names {
			if err := c.purge(ctx, n); err != nil {
				return err
			}
			after = n
		}
		if len(names) < sweepPage {
			break
		}
	}
	if err := c.purgeDeleted(ctx); err != nil {
		return err
	}
	return c.purgeBlobs(ctx)
}

// purge ends the undo window of a repository, and of deleted ones of its name.
func (c *Catalog) purge(ctx context.Context, repo registry.Name) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(removesFrom(repo)); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err == nil {
			err = errors.Join(tx.Queue(sqlPurgeTrash, id), tx.Queue(sqlPurgeReviews, id))
		} else if errors.Is(err, registry.ErrNameUnknown) {
			err = nil
		}
		if err != nil {
			return err
		}
		var gone []int64
		err = tx.Run(sqldb.Statement{Text: sqlDeletedRepos, Args: []any{string(repo)}, Row: func(scan func(dest ...any) error) error {
			var id int64
			var name string
			err := scan(&id, &name)
			gone = append(gone, id)
			return err
		}})
		for _, id := range gone {
			err = errors.Join(err, tx.Queue(sqlEndGone, id), tx.Queue(sqlPurgeReviews, id))
		}
		return err
	})
}

// purgeDeleted ends the undo window of all deleted repositories.
func (c *Catalog) purgeDeleted(ctx context.Context) error {
	for last, n := int64(0), sweepPage; n == sweepPage; {
		rows, err := c.db.Query(ctx, sqlAllDeleted, last, sweepPage)
		if err != nil {
			return fmt.Errorf("listing deleted repositories: %w", err)
		}
		var names []registry.Name
		for rows.Next() {
			var name registry.Name
			if err := rows.Scan(&last, &name); err != nil {
				rows.Close()
				return fmt.Errorf("listing deleted repositories: %w", err)
			}
			names = append(names, name)
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return fmt.Errorf("listing deleted repositories: %w", err)
		}
		for _, name := range names {
			if err := c.purge(ctx, name); err != nil {
				return err
			}
		}
		n = len(names)
	}
	return nil
}

// purgeBlobs lets blobs go that were kept for what might be restored.
func (c *Catalog) purgeBlobs(ctx context.Context) error {
	for last, n := noDigest, sweepPage; n == sweepPage; {
		err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil {
				return err
			}
			var all [][]byte
			err := tx.Run(sqldb.Statement{Text: sqlSomeBlobs, Args: []any{last, sweepPage}, Row: func(scan func(dest ...any) error) error {
				var d []byte
				err := scan(&d)
				all = append(all, d)
				return err
			}})
			for _, d := range all {
				err = errors.Join(err, tx.Queue(sqlPurgeBlobs, d))
			}
			if n = len(all); n > 0 {
				last = all[n-1]
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("purging blobs: %w", err)
		}
	}
	return nil
}
