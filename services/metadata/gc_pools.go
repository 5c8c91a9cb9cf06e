package metadata

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// What the pools are may change between two starts: storage.subPaths. Then
// repositories have another pool, by which reviews of theirs are queued; if one
// review of something stayed in the queue of the old pool it would be decided
// without the promises in the new one's.

const (
	sqlReviewed     = `SELECT DISTINCT repo_id FROM reviews WHERE repo_id > $1 ORDER BY repo_id LIMIT $2`
	sqlReviewedName = `SELECT name FROM repositories WHERE id = $1 UNION ALL SELECT name FROM deleted_repositories WHERE id = $1`
	sqlMoveReviews  = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT repo_id, digest, kind, $2, MAX(due), MAX(lease), 0 FROM reviews WHERE repo_id = $1 AND pool <> $2 GROUP BY repo_id, digest, kind
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END,
			lease = CASE WHEN reviews.lease > excluded.lease THEN reviews.lease ELSE excluded.lease END`
	sqlMovedReviews = `DELETE FROM reviews WHERE repo_id = $1 AND pool <> $2`
	sqlMoveCached   = `UPDATE cached_manifests SET pool = $2 WHERE repo_id = $1 AND pool <> $2`
	// Of the pool that a repository's content stays in nothing of it is evicted any more.
	sqlLeftBehind = `
		UPDATE blobs SET cached = 0 WHERE cached = 1 AND pool <> $2
			AND (pool, digest) IN (SELECT l.pool, l.digest FROM links l WHERE l.repo_id = $1 AND l.pool <> $2)`
	sqlCachedIn      = `SELECT DISTINCT repo_id FROM cached_manifests WHERE repo_id > $1 ORDER BY repo_id LIMIT $2`
	sqlNextBlobPool  = `SELECT MIN(pool) FROM blobs WHERE pool > $1`
	sqlFirstBlobPool = `SELECT MIN(pool) FROM blobs`
)

// poolsRow is the row of sweeps that has a hash of the pools of the last start.
const poolsRow = "pools"

// hashPools returns a number that is another one for other pools.
func hashPools(pools []registry.Pool) int64 {
	var names []string
	for _, p := range pools {
		names = append(names, string(p))
	}
	slices.Sort(names)
	h := fnv.New64a()
	h.Write([]byte(strings.Join(names, "\n")))
	return int64(h.Sum64() >> 1)
}

// adjustPools brings reviews where their repositories' pools are now, if these have
// changed since the last start. It comes before anything is collected.
func (c *Catalog) adjustPools(ctx context.Context) error {
	if err := c.warnOfLostPools(ctx); err != nil {
		return err
	}
	now := hashPools(c.pools())
	var before int64
	known, err := c.page(ctx, sqlSweepEnded, []any{poolsRow}, func(rows *sqldb.Rows) error { return rows.Scan(&before) })
	if err != nil {
		return fmt.Errorf("reading which pools there were: %w", err)
	}
	if known > 0 && before == now {
		return nil
	}
	for _, query := range []string{sqlReviewed, sqlCachedIn} {
		if err := c.adjustRepositories(ctx, query); err != nil {
			return fmt.Errorf("adjusting the queue of reviews to changed pools: %w", err)
		}
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // one row
			return err
		}
		return tx.Queue(sqlEndSweep, poolsRow, now)
	})
}

// adjustRepositories adjusts the repositories that query lists.
func (c *Catalog) adjustRepositories(ctx context.Context, query string) error {
	for after := int64(0); ; {
		var ids []int64
		_, err := c.page(ctx, query, []any{after, chunk}, func(rows *sqldb.Rows) error {
			var id int64
			err := rows.Scan(&id)
			ids = append(ids, id)
			return err
		})
		if err != nil {
			return err
		}
		for _, id := range ids {
			after = id
			if err := c.adjustRepository(ctx, id); err != nil {
				return err
			}
		}
		if len(ids) < chunk {
			return nil
		}
	}
}

func (c *Catalog) adjustRepository(ctx context.Context, id int64) error {
	var name registry.Name
	found, err := c.page(ctx, sqlReviewedName, []any{id}, func(rows *sqldb.Rows) error { return rows.Scan(&name) })
	if err != nil || found == 0 {
		return err
	}
	pool := string(c.poolOf(name))
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(removesFrom(name)); err != nil {
			return err
		}
		for _, s := range []string{sqlMoveReviews, sqlMovedReviews, sqlLeftBehind, sqlMoveCached} {
			if err := tx.Queue(s, id, pool); err != nil {
				return err
			}
		}
		return nil
	})
}

// warnOfLostPools tells of blobs in pools that the config file does not have.
func (c *Catalog) warnOfLostPools(ctx context.Context) error {
	known := c.pools()
	next := func(query string, args ...any) (p *string, err error) {
		err = c.db.QueryRow(ctx, query, args...).Scan(&p)
		return p, err
	}
	p, err := next(sqlFirstBlobPool)
	for ; err == nil && p != nil; p, err = next(sqlNextBlobPool, *p) {
		if !slices.Contains(known, registry.Pool(*p)) {
			c.log.Error("blobs are in a pool that the config file does not have any more: nobody can read them until storage.subPaths has it again",
				"pool", *p)
		}
	}
	if err != nil {
		return fmt.Errorf("reading which pools have blobs: %w", err)
	}
	return nil
}
