package metadata

import (
	"context"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// strayAge is how long a copy must have been known to nobody before it is removed:
// so long after its upload began, and so long after a sweep found it. The first
// alone is not enough, because a slow upload may be made a blob days after it
// began, and be linked a moment later. Between those two there is one call of the
// gateway; a day is more than any of its timeouts.
const strayAge = 24 * time.Hour

const (
	sqlIsKnown = `
		SELECT EXISTS (SELECT 1 FROM blobs WHERE pool = $1 AND digest = $2 AND locator = $3)
			OR EXISTS (SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3)`
	sqlStray      = `INSERT INTO strays (pool, digest, locator, seen) VALUES ($1, $2, $3, $4) ON CONFLICT (pool, digest, locator) DO NOTHING`
	sqlStraySeen  = `SELECT seen FROM strays WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlNoStray    = `DELETE FROM strays WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlDiscardOne = `
		INSERT INTO garbage (pool, digest, locator, size, due, attempts) VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (pool, digest, locator) DO NOTHING`
	sqlOldStrays = `SELECT pool, digest, locator, seen FROM strays WHERE (pool, digest, locator) > ($1, $2, $3) ORDER BY pool, digest, locator LIMIT $4`
)

// sweepStrays lists the copies that are stored and queues those for removal that
// nobody knows.
func (c *Catalog) sweepStrays(ctx context.Context) error {
	for _, p := range c.pools() {
		if c.policy(p).Off {
			continue
		}
		var last *registry.Stored
		for {
			page, err := c.reaper.Copies(ctx, p, last, sweepPage)
			if err != nil {
				return fmt.Errorf("listing copies: %w", err)
			}
			for _, s := range page {
				s.Pool = p
				if err := c.sweepCopy(ctx, s); err != nil {
					return err
				}
			}
			if len(page) < sweepPage {
				break
			}
			last = &page[len(page)-1]
		}
	}
	if err := c.forgetStrays(ctx); err != nil {
		return err
	}
	return c.endSweep(ctx, sweepCopies)
}

// sweepCopy remembers a copy nobody knows, or gives it up if that was so long ago.
func (c *Catalog) sweepCopy(ctx context.Context, s registry.Stored) error {
	digest, err := pack(s.Digest)
	if err != nil {
		return err
	}
	now := c.opt.Now()
	if now.Sub(s.Locator.Born()) < strayAge {
		return nil
	}
	key := []any{string(s.Pool), digest, string(s.Locator)}
	var known bool
	if err := c.db.QueryRow(ctx, sqlIsKnown, key...).Scan(&known); err != nil || known {
		return err
	}
	discarded := false
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		discarded = false
		if err := tx.Lock(decidesCopy(s.Pool, s.Digest)); err != nil {
			return err
		}
		if err := tx.QueryRow(sqlIsKnown, key...).Scan(&known); err != nil || known {
			return err
		}
		if err := tx.Queue(sqlStray, append(key, now.UnixMicro())...); err != nil {
			return err
		}
		var seen int64
		if err := tx.QueryRow(sqlStraySeen, key...).Scan(&seen); err != nil {
			return err
		}
		if now.UnixMicro()-seen < strayAge.Microseconds() {
			return nil
		}
		discarded = true
		if err := tx.Queue(sqlDiscardOne, append(key, s.Size, now.UnixMicro())...); err != nil {
			return err
		}
		return tx.Queue(sqlNoStray, key...)
	})
	if discarded && err == nil {
		c.log.Warn("removing a copy that nothing has known for a day", "digest", s.Digest, "pool", s.Pool, "locator", s.Locator, "bytes", s.Size)
		c.wakeGarbage()
	}
	return err
}

// forgetStrays forgets copies that are known now, or gone: those seen first long
// before this sweep that it has not given up.
func (c *Catalog) forgetStrays(ctx context.Context) error {
	type stray struct {
		key  []any
		seen int64
	}
	pool, digest, locator := "", noDigest, ""
	for {
		var page []stray
		rows, err := c.db.Query(ctx, sqlOldStrays, pool, digest, locator, sweepPage)
		if err != nil {
			return fmt.Errorf("reading strays: %w", err)
		}
		for rows.Next() {
			var s stray
			if err := rows.Scan(&pool, &digest, &locator, &s.seen); err != nil {
				rows.Close()
				return fmt.Errorf("reading strays: %w", err)
			}
			s.key = []any{pool, digest, locator}
			page = append(page, s)
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return fmt.Errorf("reading strays: %w", err)
		}
		old := c.now() - strayAge.Microseconds()
		err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil {
				return err
			}
			for _, s := range page {
				if s.seen > old {
					continue
				}
				if err := tx.Queue(sqlNoStray, s.key...); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || len(page) < sweepPage {
			return err
		}
	}
}
