package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// The row is there if the repository is. A blob that is linked wins against a
// manifest of the same digest: both have the same bytes.
const sqlBlob = `
	SELECT b.pool, b.size, b.locator, b.inline, b.verified_at, b.damaged IS NOT NULL, m.payload, v.lease
	FROM repositories r
	LEFT JOIN links l ON l.repo_id = r.id AND l.digest = $2
	LEFT JOIN blobs b ON b.pool = l.pool AND b.digest = $2
	LEFT JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 AND b.size IS NULL AND m.damaged IS NULL
	LEFT JOIN reviews v ON v.repo_id = r.id AND v.digest = $2 AND v.kind = CASE WHEN b.size IS NULL THEN 1 ELSE 2 END
	WHERE r.name = $1`

// Blob returns the content d of repo: a linked blob, or a manifest's bytes.
func (c *Catalog) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if err := c.access.allowRef(a, repo, registry.Reference{Digest: d}, registry.ActRead); err != nil {
		return registry.Blob{}, err
	}
	b, ok := c.rows.blob(repo, d)
	c.meters.blobs.count(ok)
	if ok {
		return b, ctx.Err()
	}
	at := c.rows.now()
	digest, err := pack(d)
	if err != nil {
		return registry.Blob{}, err
	}
	b, r, err := c.readBlob(ctx, repo, d, digest)
	if err != nil {
		return registry.Blob{}, err
	}
	until, there := c.keep(ctx, repo, digest, r.kind, r.lease)
	if !there {
		return registry.Blob{}, registry.ErrBlobUnknown
	}
	if b.Inline != nil {
		return b, nil
	}
	// What the cache says must not outlive the interval, nor what is verified next.
	verified := c.verifiedUntil(r.verified)
	b.Unverified = verified < c.now()
	switch {
	case !b.Unverified && (until == 0 || verified < until):
		until = verified
	case b.Unverified && !c.policies.Load().scrub.AlwaysVerify:
		return b, nil
	}
	c.rows.fillBlob(repo, b, until, at)
	return b, nil
}

// reviewed is what is known of the review of content that was read.
type reviewed struct {
	kind     int
	lease    *int64 // nil if there is none
	verified int64  // when the copy was last found to be whole
}

func (c *Catalog) readBlob(ctx context.Context, repo registry.Name, d registry.Digest, digest []byte) (registry.Blob, reviewed, error) {
	var (
		pool, locator   sql.NullString
		size            sql.NullInt64
		verified        sql.NullInt64
		damaged         bool
		inline, payload []byte
		r               = reviewed{kind: reviewLink}
	)
	err := c.db.QueryRow(ctx, sqlBlob, string(repo), digest).Scan(&pool, &size, &locator, &inline, &verified, &damaged, &payload, &r.lease)
	if errors.Is(err, sql.ErrNoRows) {
		return registry.Blob{}, r, registry.ErrNameUnknown
	}
	if err != nil {
		return registry.Blob{}, r, fmt.Errorf("reading a blob's place: %w", err)
	}
	if damaged {
		return registry.Blob{}, r, errBlobDamaged
	}
	r.verified = verified.Int64
	if inline == nil {
		inline = payload
	}
	if inline != nil && d.Algorithm().FromBytes(inline) != d {
		c.log.Error("the bytes of a manifest that is read as a blob do not hash to its digest", "repository", repo, "digest", d)
		return registry.Blob{}, r, errBlobDamaged
	}
	if !size.Valid {
		r.kind = reviewManifest
	}
	switch {
	case inline != nil:
		return registry.Blob{Stored: registry.Stored{Digest: d, Size: int64(len(inline))}, Inline: inline}, r, nil
	case size.Valid:
		return registry.Blob{Stored: registry.Stored{
			Digest: d, Size: size.Int64, Pool: registry.Pool(pool.String), Locator: registry.Locator(locator.String),
		}}, r, nil
	}
	return registry.Blob{}, r, registry.ErrBlobUnknown
}

const (
	sqlCopy    = `SELECT size, locator, damaged IS NOT NULL FROM blobs WHERE pool = $1 AND digest = $2`
	sqlAddBlob = `
		INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created, inline)
		VALUES ($1, $2, $3, $4, 0, $6, $5, $6, $7)`
	sqlLink = `INSERT INTO links (repo_id, digest, pool) VALUES ($1, $2, $3) ON CONFLICT (repo_id, digest) DO UPDATE SET pool = excluded.pool`
)

// The steps of [Catalog.Link], each of which looks at what those before it have
// done. A copy that is garbage is not taken: its bytes may be gone any moment.
const (
	sqlKeepFirst = `
		INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created, verified_at, cached)
		SELECT $1, $2, $3, $4, 0, CAST($6 AS BIGINT), $5, CAST($6 AS BIGINT), $7, CAST($8 AS SMALLINT)
		WHERE NOT EXISTS (SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $4)
		ON CONFLICT (pool, digest) DO NOTHING`
	// A manifest that was mounted as a blob gets a copy.
	sqlReplaceInline = `
		UPDATE blobs SET locator = $3, inline = NULL, verified_at = 0, damaged = NULL, problem = NULL WHERE pool = $1 AND digest = $2 AND inline IS NOT NULL
		AND NOT EXISTS (SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3)`
	sqlDiscardSecond = `
		INSERT INTO garbage (pool, digest, locator, size, due, attempts)
		SELECT pool, digest, $3, $4, $5, 0 FROM blobs WHERE pool = $1 AND digest = $2 AND inline IS NULL AND locator <> $3 AND damaged IS NULL
		ON CONFLICT (pool, digest, locator) DO NOTHING`
	sqlRevive      = `UPDATE blobs SET state = 0, epoch = epoch + 1 WHERE pool = $1 AND digest = $2 AND state <> 0`
	sqlMakeRepoFor = `
		INSERT INTO repositories (name, id, created)
		SELECT $1, COALESCE($2, (SELECT COALESCE(MAX(n), 0) + 1 FROM (SELECT MAX(id) AS n FROM repositories UNION ALL SELECT last FROM repository_ids WHERE one = 1) ids)), $3
		FROM blobs WHERE pool = $4 AND digest = $5 AND inline IS NULL AND NOT EXISTS (SELECT 1 FROM repositories WHERE name = $1)
		ON CONFLICT (name) DO NOTHING`
	sqlLinkKept = `
		INSERT INTO links (repo_id, digest, pool)
		SELECT r.id, b.digest, b.pool FROM repositories r JOIN blobs b ON b.pool = $2 AND b.digest = $3 AND b.inline IS NULL
		WHERE r.name = $1
		ON CONFLICT (repo_id, digest) DO UPDATE SET pool = excluded.pool WHERE links.pool <> excluded.pool`
)

// Link makes s known in repo, or an earlier copy of the same content.
func (c *Catalog) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	return c.linkAs(ctx, a, repo, s, blobPushed)
}

// linkAs links a copy that was pushed, or fetched: see blobs.cached.
func (c *Catalog) linkAs(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored, as int) (registry.Stored, error) {
	if err := c.allowPut(a, repo, as == blobCached); err != nil {
		return registry.Stored{}, err
	}
	if !c.knowsPool(s.Pool) {
		return registry.Stored{}, registry.ErrUnavailable.With("unknown pool")
	}
	if s.Locator == "" || s.Size < 0 {
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	digest, err := pack(s.Digest)
	if err != nil {
		return registry.Stored{}, err
	}
	var kept registry.Stored
	damaged := false
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		kept, damaged = registry.Stored{}, false
		quotas := c.limits().quotaLocks(repo)
		if err := tx.Lock(append([]sqldb.Lock{usesRepo(repo), decidesCopy(s.Pool, s.Digest)}, quotas...)...); err != nil {
			return err
		}
		c.changesBlob(tx, repo, s.Digest)
		steps := c.linkSteps(a, repo, s, digest, as, &kept, &damaged)
		if len(quotas) > 0 {
			return c.linkWithin(tx, repo, digest, steps, &kept, false)
		}
		return tx.Last(steps...)
	})
	if len(c.limits().Quotas) > 0 && errors.Is(err, registry.ErrDenied) {
		c.discardRefused(ctx, s, digest)
	}
	if err == nil && kept.Locator == "" { // or the answer was lost
		kept, err = c.keptCopy(ctx, s, digest)
	}
	if err != nil {
		return registry.Stored{}, err
	}
	if damaged && kept.Locator != s.Locator {
		return c.heal(ctx, kept, s, digest)
	}
	if kept.Locator != s.Locator {
		c.wakeGarbage()
	}
	return kept, nil
}

// linkSteps decide which copy of the content is used in s's pool: the first one
// wins, and s becomes garbage if it is another. That one is known in repo from
// then on, and stored in kept. A copy that is damaged is kept, too, but s is not
// garbage then.
func (c *Catalog) linkSteps(a registry.Actor, repo registry.Name, s registry.Stored, digest []byte, as int, kept *registry.Stored, damaged *bool) []sqldb.Statement {
	pool, locator, now, promised := string(s.Pool), string(s.Locator), c.now(), c.promise(s.Pool)
	verified := now // while it was written
	if s.Locator.Born().IsZero() {
		verified = 0 // by somebody else
	}
	revive := sqlRevivePushed
	if as == blobCached {
		revive = sqlReviveCached
	}
	fresh := new(bool) // the pool had no copy: s is the one that is used
	return []sqldb.Statement{
		{Text: sqlKeepFirst, Args: []any{pool, digest, s.Size, locator, promised, now, verified, as}, Changed: func(rows int64) {
			if rows > 0 {
				*fresh, *kept = true, registry.Stored{Digest: s.Digest, Size: s.Size, Pool: s.Pool, Locator: s.Locator}
			}
		}},
		{Text: revive, Args: []any{pool, digest}, Unless: fresh},
		{Text: sqlReplaceInline, Args: []any{pool, digest, locator}, Unless: fresh},
		{Text: sqlDiscardSecond, Args: []any{pool, digest, locator, s.Size, now}, Unless: fresh},
		{Text: sqlMakeRepoFor, Args: []any{string(repo), c.newID(), now, pool, digest}},
		c.linkEvents(repo, s.Pool, digest, a, false),
		{Text: sqlLinkKept, Args: []any{string(repo), pool, digest}},
		{Text: sqlReviewNewLink, Args: []any{string(repo), digest, string(c.poolOf(repo)), promised}},
		{Text: sqlCopy, Args: []any{pool, digest}, Unless: fresh, Row: func(scan func(dest ...any) error) error {
			*kept = registry.Stored{Digest: s.Digest, Pool: s.Pool}
			return scan(&kept.Size, &kept.Locator, damaged)
		}},
	}
}

// keptCopy returns the copy that is used in s's pool.
func (c *Catalog) keptCopy(ctx context.Context, s registry.Stored, digest []byte) (registry.Stored, error) {
	kept := registry.Stored{Digest: s.Digest, Pool: s.Pool}
	damaged := false
	err := c.db.QueryRow(ctx, sqlCopy, string(s.Pool), digest).Scan(&kept.Size, &kept.Locator, &damaged)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && kept.Locator == "":
		return registry.Stored{}, registry.ErrBlobUnknown.With("this copy of the blob was given up: upload it again")
	case err != nil:
		return registry.Stored{}, fmt.Errorf("reading which copy of a blob is used: %w", err)
	case damaged && kept.Locator != s.Locator:
		return c.heal(ctx, kept, s, digest)
	}
	return kept, nil
}

func (c *Catalog) knowsPool(p registry.Pool) bool {
	if p == "" {
		return true
	}
	for _, q := range c.opt.Pools {
		if p == q {
			return true
		}
	}
	return false
}

// link makes the copy s known in the repository.
func (c *Catalog) link(tx *sqldb.Tx, id int64, repo registry.Name, s registry.Stored, digest []byte, a registry.Actor) error {
	event := c.linkEvents(repo, s.Pool, digest, a, true)
	if err := tx.Queue(event.Text, event.Args...); err != nil {
		return fmt.Errorf("recording an event: %w", err)
	}
	linked := true // or nobody counts
	if len(c.limits().quotasOf(repo)) > 0 {
		var err error
		if linked, err = exists(tx.QueryRow(sqlHasLink, id, digest)); err != nil {
			return err
		}
	}
	if err := tx.Queue(sqlLink, id, digest, string(s.Pool)); err != nil {
		return fmt.Errorf("linking a blob: %w", err)
	}
	if !linked {
		if err := c.charge(tx, id, repo, digest, s.Size, false); err != nil {
			return err
		}
	}
	c.changesBlob(tx, repo, s.Digest)
	return nil
}

// changesBlob keeps what the caches have of a blob away from readers while tx
// commits.
func (c *Catalog) changesBlob(tx *sqldb.Tx, repo registry.Name, d registry.Digest) {
	ch := c.change()
	ch.blobs = append(ch.blobs, rowKey{repo, string(d)})
	ch.attach(tx)
}

const (
	sqlHasLinkIn = `SELECT 1 FROM links WHERE repo_id = (SELECT id FROM repositories WHERE name = $1) AND digest = $2`
	sqlHasLink   = `SELECT 1 FROM links WHERE repo_id = $1 AND digest = $2`
	// A deleted manifest may need the blob again, if somebody undoes that.
	sqlReviewBlobOf = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT 0, l.digest, 3, l.pool, $3, 0, 0 FROM links l WHERE l.repo_id = $1 AND l.digest = $2
		ON CONFLICT (repo_id, digest, kind, pool) DO UPDATE SET
			due = CASE WHEN reviews.due > excluded.due THEN reviews.due ELSE excluded.due END`
	sqlUnlink = `DELETE FROM links WHERE repo_id = $1 AND digest = $2`
)

// Unlink makes d unknown in repo.
func (c *Catalog) Unlink(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.allowDelete(a, repo, registry.Reference{Digest: d}); err != nil {
		return err
	}
	digest, err := pack(d)
	if err != nil {
		return err
	}
	return c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(append([]sqldb.Lock{removesFrom(repo)}, c.limits().quotaLocks(repo)...)...); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		var linked, manifest, used bool
		for _, q := range []struct {
			query string
			found *bool
		}{{sqlHasLink, &linked}, {sqlHasManifest, &manifest}, {sqlIsReferenced, &used}} {
			if *q.found, err = exists(tx.QueryRow(q.query, id, digest)); err != nil {
				return err
			}
		}
		switch {
		case !linked && !manifest:
			return registry.ErrBlobUnknown
		case manifest || used:
			return registry.ErrInUse
		}
		p := c.poolOf(repo)
		if err := tx.Queue(sqlReviewBlobOf, id, digest, c.undoable(p)); err != nil {
			return err
		}
		if err := tx.Queue(sqlUnlink, id, digest); err != nil {
			return fmt.Errorf("unlinking a blob: %w", err)
		}
		if err := c.discharge(tx, id, repo, digest); err != nil {
			return err
		}
		if err := c.review(tx, id, noDigest, reviewRepository, p, c.undoable(p), 0); err != nil {
			return err
		}
		if err := c.tell(tx, BlobUnlinked, id, a, digest); err != nil {
			return err
		}
		c.changesBlob(tx, repo, d)
		return nil
	})
}
