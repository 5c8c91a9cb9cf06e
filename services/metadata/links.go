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
	SELECT b.pool, b.size, b.locator, b.inline, m.payload
	FROM repositories r
	LEFT JOIN links l ON l.repo_id = r.id AND l.digest = $2
	LEFT JOIN blobs b ON b.pool = l.pool AND b.digest = $2
	LEFT JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 AND b.size IS NULL
	WHERE r.name = $1`

// Blob returns the content d of repo: a linked blob, or a manifest's bytes.
func (c *Catalog) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if err := c.access.allow(a, repo, actRead); err != nil {
		return registry.Blob{}, err
	}
	b, ok := c.rows.blob(repo, d)
	c.meters.blobs.count(ok)
	if ok {
		return b, ctx.Err()
	}
	at := c.rows.now()
	b, err := c.readBlob(ctx, repo, d)
	if err == nil && b.Inline == nil {
		c.rows.fillBlob(repo, b, at)
	}
	return b, err
}

func (c *Catalog) readBlob(ctx context.Context, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	digest, err := pack(d)
	if err != nil {
		return registry.Blob{}, err
	}
	var (
		pool, locator   sql.NullString
		size            sql.NullInt64
		inline, payload []byte
	)
	err = c.db.QueryRow(ctx, sqlBlob, string(repo), digest).Scan(&pool, &size, &locator, &inline, &payload)
	if errors.Is(err, sql.ErrNoRows) {
		return registry.Blob{}, registry.ErrNameUnknown
	}
	if err != nil {
		return registry.Blob{}, fmt.Errorf("reading a blob's place: %w", err)
	}
	if inline == nil {
		inline = payload
	}
	switch {
	case inline != nil:
		return registry.Blob{Stored: registry.Stored{Digest: d, Size: int64(len(inline))}, Inline: inline}, nil
	case size.Valid:
		return registry.Blob{Stored: registry.Stored{
			Digest: d, Size: size.Int64, Pool: registry.Pool(pool.String), Locator: registry.Locator(locator.String),
		}}, nil
	}
	return registry.Blob{}, registry.ErrBlobUnknown
}

const (
	sqlCopy    = `SELECT size, locator FROM blobs WHERE pool = $1 AND digest = $2`
	sqlAddBlob = `
		INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created, inline)
		VALUES ($1, $2, $3, $4, 0, 0, $5, $6, $7)`
	sqlReplaceInline = `UPDATE blobs SET locator = $3, inline = NULL WHERE pool = $1 AND digest = $2`
	sqlIsGarbage     = `SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlLink          = `INSERT INTO links (repo_id, digest, pool) VALUES ($1, $2, $3) ON CONFLICT (repo_id, digest) DO UPDATE SET pool = excluded.pool`
)

// Link makes s known in repo, or an earlier copy of the same content.
func (c *Catalog) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	if err := c.access.allow(a, repo, actPush); err != nil {
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
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(usesRepo(repo), decidesCopy(s.Pool, s.Digest)); err != nil {
			return err
		}
		id, err := c.makeRepo(tx, repo)
		if err != nil {
			return err
		}
		if kept, err = c.keepOne(tx, digest, s); err != nil {
			return err
		}
		return c.link(tx, id, repo, kept, digest)
	})
	if err != nil {
		return registry.Stored{}, err
	}
	if kept.Locator != s.Locator {
		c.wakeGarbage()
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

// keepOne decides which copy of the content is used in s's pool: the first one
// wins, and s becomes garbage if it is another.
func (c *Catalog) keepOne(tx *sqldb.Tx, digest []byte, s registry.Stored) (registry.Stored, error) {
	kept := registry.Stored{Digest: s.Digest, Pool: s.Pool}
	err := tx.QueryRow(sqlCopy, string(s.Pool), digest).Scan(&kept.Size, &kept.Locator)
	if err == nil && kept.Locator == s.Locator {
		return kept, nil
	}
	if err == nil && kept.Locator != "" {
		return kept, c.discard(tx, digest, s)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return kept, fmt.Errorf("looking for an earlier copy: %w", err)
	}
	inline := err == nil

	// Its bytes may be gone any moment.
	if removing, err := exists(tx.QueryRow(sqlIsGarbage, string(s.Pool), digest, string(s.Locator))); err != nil {
		return kept, err
	} else if removing {
		return kept, registry.ErrBlobUnknown.With("this copy of the blob was given up: upload it again")
	}
	if inline {
		_, err = tx.Exec(sqlReplaceInline, string(s.Pool), digest, string(s.Locator))
	} else {
		_, err = tx.Exec(sqlAddBlob, string(s.Pool), digest, s.Size, string(s.Locator), c.lease(), c.now(), nil)
	}
	if err != nil {
		return kept, fmt.Errorf("storing a blob's place: %w", err)
	}
	return s, nil
}

// link makes the copy s known in the repository.
func (c *Catalog) link(tx *sqldb.Tx, id int64, repo registry.Name, s registry.Stored, digest []byte) error {
	if _, err := tx.Exec(sqlLink, id, digest, string(s.Pool)); err != nil {
		return fmt.Errorf("linking a blob: %w", err)
	}
	ch := c.change()
	ch.blobs = append(ch.blobs, rowKey{repo, string(s.Digest)})
	ch.attach(tx)
	return nil
}

func (c *Catalog) lease() int64 { return c.opt.Now().Add(c.opt.Lease).UnixMicro() }

const (
	sqlHasLink = `SELECT 1 FROM links WHERE repo_id = $1 AND digest = $2`
	sqlUnlink  = `DELETE FROM links WHERE repo_id = $1 AND digest = $2`
)

// Unlink makes d unknown in repo.
func (c *Catalog) Unlink(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) error {
	if err := c.access.allow(a, repo, actDelete); err != nil {
		return err
	}
	digest, err := pack(d)
	if err != nil {
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
		if _, err := tx.Exec(sqlUnlink, id, digest); err != nil {
			return fmt.Errorf("unlinking a blob: %w", err)
		}
		ch := c.change()
		ch.blobs = append(ch.blobs, rowKey{repo, string(d)})
		ch.attach(tx)
		return nil
	})
}
