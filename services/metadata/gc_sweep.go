package metadata

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry/sqldb"
)

// The sweep finds what should have a review and has none: rows from before there
// were reviews, and whatever a mistake would leave. It reads every row in pages
// and writes only what it finds.
const (
	sqlSweepManifests = `
		SELECT m.repo_id, m.digest, r.name,
			(SELECT 1 FROM reviews v WHERE v.repo_id = m.repo_id AND v.digest = m.digest AND v.kind = 1 LIMIT 1) IS NULL
			AND (SELECT 1 FROM tags t WHERE t.repo_id = m.repo_id AND t.digest = m.digest LIMIT 1) IS NULL
			AND (SELECT 1 FROM manifest_references f WHERE f.repo_id = m.repo_id AND f.digest = m.digest LIMIT 1) IS NULL
			AND (SELECT 1 FROM manifests s WHERE s.repo_id = m.repo_id AND s.digest = m.subject LIMIT 1) IS NULL
		FROM manifests m JOIN repositories r ON r.id = m.repo_id
		WHERE (m.repo_id, m.digest) > ($1, $2) ORDER BY m.repo_id, m.digest LIMIT $3`
	sqlSweepLinks = `
		SELECT l.repo_id, l.digest, r.name,
			(SELECT 1 FROM reviews v WHERE v.repo_id = l.repo_id AND v.digest = l.digest AND v.kind = 2 LIMIT 1) IS NULL
			AND (SELECT 1 FROM manifest_references f WHERE f.repo_id = l.repo_id AND f.digest = l.digest LIMIT 1) IS NULL
		FROM links l JOIN repositories r ON r.id = l.repo_id
		WHERE (l.repo_id, l.digest) > ($1, $2) ORDER BY l.repo_id, l.digest LIMIT $3`
	sqlSweepBlobs = `
		SELECT b.pool, b.digest,
			(SELECT 1 FROM links l WHERE l.digest = b.digest AND l.pool = b.pool LIMIT 1) IS NULL
			AND (SELECT 1 FROM reviews v WHERE v.repo_id = 0 AND v.digest = b.digest AND v.kind = 3 AND v.pool = b.pool LIMIT 1) IS NULL
		FROM blobs b WHERE (b.pool, b.digest) > ($1, $2) ORDER BY b.pool, b.digest LIMIT $3`
	sqlSweepRepos = `
		SELECT r.name, r.id,
			(SELECT 1 FROM manifests m WHERE m.repo_id = r.id LIMIT 1) IS NULL AND (SELECT 1 FROM links l WHERE l.repo_id = r.id LIMIT 1) IS NULL
			AND (SELECT 1 FROM trash g WHERE g.repo_id = r.id LIMIT 1) IS NULL
			AND (SELECT 1 FROM reviews v WHERE v.repo_id = r.id AND v.digest = $3 AND v.kind = 4 LIMIT 1) IS NULL
		FROM repositories r WHERE r.name > $1 ORDER BY r.name LIMIT $2`
	// A deleted repository always has something to be done.
	sqlSweepGone = `
		SELECT g.name, g.id, (SELECT 1 FROM reviews v WHERE v.repo_id = g.id AND v.digest = $3 AND v.kind = 4 LIMIT 1) IS NULL
		FROM deleted_repositories g WHERE g.id > $1 ORDER BY g.id LIMIT $2`

	// Reviews from a time when the clock was far ahead.
	sqlTooLate = `
		UPDATE reviews SET due = $2, lease = CASE WHEN lease > $2 THEN $2 ELSE lease END WHERE pool = $1 AND due > $2`

	sqlSweepEnded = `SELECT ended FROM sweeps WHERE name = $1`
	sqlEndSweep   = `INSERT INTO sweeps (name, ended) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET ended = excluded.ended`
)

// Names of sweeps.
const (
	sweepRows   = "rows"
	sweepCopies = "copies"
)

const sweepPage = 500

// sweepDue sweeps if it is time to.
func (c *Catalog) sweepDue(ctx context.Context) error {
	interval := onlyAtStart
	for _, p := range c.pools() {
		if g := c.policy(p); !g.Off && g.Interval > 0 && (interval < 0 || g.Interval < interval) {
			interval = g.Interval
		}
	}
	for _, s := range []struct {
		name  string
		every int64
		sweep func(context.Context) error
	}{
		{sweepRows, interval.Microseconds(), c.sweep},
		{sweepCopies, max(interval, strayAge).Microseconds(), c.sweepStrays},
	} {
		ended, err := c.lastSweep(ctx, s.name)
		if err != nil {
			return err
		}
		if now := c.now(); s.every > 0 && ended != 0 && now-ended < s.every && ended <= now || s.every <= 0 && c.swept {
			continue
		}
		if s.name == sweepCopies && ended == 0 {
			// There is no hurry, and a start is no time to read a whole bucket.
			if err := c.endSweep(ctx, s.name); err != nil {
				return err
			}
			continue
		}
		if err := s.sweep(ctx); err != nil {
			return fmt.Errorf("sweeping %s: %w", s.name, err)
		}
	}
	c.swept = true
	return nil
}

// lastSweep returns when a sweep ended last, 0 if it never has.
func (c *Catalog) lastSweep(ctx context.Context, name string) (ended int64, err error) {
	err = c.db.QueryRow(ctx, sqlSweepEnded, name).Scan(&ended)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("reading when a sweep ended: %w", err)
	}
	return ended, nil
}

func (c *Catalog) endSweep(ctx context.Context, name string) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		return tx.Queue(sqlEndSweep, name, c.now())
	})
}

// sweep queues reviews of all that should have one.
func (c *Catalog) sweep(ctx context.Context) error {
	for _, step := range []func(context.Context) error{c.sweepLate, c.sweepManifests, c.sweepLinks, c.sweepBlobs, c.sweepRepositories, c.sweepGone} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return c.endSweep(ctx, sweepRows)
}

// sweepLate brings reviews back that are later than any can be.
func (c *Catalog) sweepLate(ctx context.Context) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		for _, p := range c.pools() {
			if err := tx.Queue(sqlTooLate, string(p), max(c.undoable(p), c.promise(p))); err != nil {
				return err
			}
		}
		return nil
	})
}

// swept is a row that a sweep read.
type swept struct {
	due
	missing bool // its review is
}

func (c *Catalog) sweepManifests(ctx context.Context) error {
	return c.sweepContent(ctx, sqlSweepManifests, reviewManifest)
}

func (c *Catalog) sweepLinks(ctx context.Context) error {
	return c.sweepContent(ctx, sqlSweepLinks, reviewLink)
}

func (c *Catalog) sweepContent(ctx context.Context, query string, kind int) error {
	last := due{packed: noDigest}
	return c.sweepPages(ctx, query, func() []any { return []any{last.repoID, last.packed, sweepPage} },
		func(rows *sqldb.Rows) (swept, error) {
			s := swept{due: due{kind: kind}}
			err := rows.Scan(&s.repoID, &s.packed, &s.repo, &s.missing)
			s.pool = c.poolOf(s.repo)
			last = s.due
			return s, err
		})
}

func (c *Catalog) sweepBlobs(ctx context.Context) error {
	last := due{packed: noDigest}
	return c.sweepPages(ctx, sqlSweepBlobs, func() []any { return []any{string(last.pool), last.packed, sweepPage} },
		func(rows *sqldb.Rows) (swept, error) {
			s := swept{due: due{kind: reviewBlob}}
			err := rows.Scan(&s.pool, &s.packed, &s.missing)
			last = s.due
			return s, err
		})
}

func (c *Catalog) sweepRepositories(ctx context.Context) error {
	last := due{}
	return c.sweepPages(ctx, sqlSweepRepos, func() []any { return []any{string(last.repo), sweepPage, noDigest} },
		func(rows *sqldb.Rows) (swept, error) {
			s := swept{due: due{kind: reviewRepository, packed: noDigest}}
			err := rows.Scan(&s.repo, &s.repoID, &s.missing)
			s.pool = c.poolOf(s.repo)
			last = s.due
			return s, err
		})
}

func (c *Catalog) sweepGone(ctx context.Context) error {
	last := due{}
	return c.sweepPages(ctx, sqlSweepGone, func() []any { return []any{last.repoID, sweepPage, noDigest} },
		func(rows *sqldb.Rows) (swept, error) {
			s := swept{due: due{kind: reviewRepository, packed: noDigest}}
			err := rows.Scan(&s.repo, &s.repoID, &s.missing)
			s.pool = c.poolOf(s.repo)
			last = s.due
			return s, err
		})
}

// sweepPages reads rows page by page and queues the reviews that are missing. A
// row that has got a reference meanwhile has a review too many, which is no harm.
// Nobody knows when it lost the last one: the whole time to undo that is left.
func (c *Catalog) sweepPages(ctx context.Context, query string, args func() []any, scan func(*sqldb.Rows) (swept, error)) error {
	for {
		n, missing, err := c.sweepOnePage(ctx, query, args(), scan)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
				if err := tx.Lock(); err != nil {
					return err
				}
				ch := c.change()
				for _, m := range missing {
					promised := c.promise(m.pool)
					if err := c.review(tx, m.repoID, m.packed, m.kind, m.pool, max(promised, c.undoable(m.pool)), promised); err != nil {
						return err
					}
					if err := ch.reviewed(m); err != nil {
						return err
					}
				}
				ch.attach(tx)
				return nil
			})
			if err != nil {
				return err
			}
		}
		if n < sweepPage {
			return nil
		}
	}
}

func (c *Catalog) sweepOnePage(ctx context.Context, query string, args []any, scan func(*sqldb.Rows) (swept, error)) (n int, missing []due, err error) {
	rows, err := c.db.Query(ctx, query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close()
	for rows.Next() {
		s, err := scan(rows)
		if err != nil {
			return 0, nil, err
		}
		n++
		if s.missing {
			s.packed = bytes.Clone(s.packed)
			missing = append(missing, s.due)
		}
	}
	return n, missing, rows.Err()
}

// reviewed adds content that has a review from now on: the caches may know that it
// needs no promise.
func (c *change) reviewed(d due) error {
	if d.kind != reviewManifest && d.kind != reviewLink {
		return nil
	}
	digest, err := unpack(d.packed)
	if err != nil {
		return err
	}
	k := rowKey{d.repo, string(digest)}
	c.manifests, c.blobs = append(c.manifests, k), append(c.blobs, k)
	return nil
}
