package metadata

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Cache says how much content of upstreams is kept.
type Cache struct {
	// Bytes is how many there may be in a pool, unless it is in PoolBytes. 0: any
	// number.
	Bytes     int64
	PoolBytes map[registry.Pool]int64
	// Pins are patterns of what stays, see [registry.Pin].
	Pins []string
}

// limit returns how many bytes of cached content a pool may have, 0 for any number.
func (o Cache) limit(p registry.Pool) int64 {
	if n, ok := o.PoolBytes[p]; ok {
		return n
	}
	return o.Bytes
}

// evicted counts what a process has evicted from a pool.
type evicted struct{ manifests, bytes atomic.Int64 }

// The values of blobs.cached.
const (
	blobPushed = 0 // it was pushed, by whoever
	blobCached = 1 // only cached manifests need it
	blobUnused = 2 // nothing needs it, it was evicted
)

const (
	sqlMarkCached = `
		INSERT INTO cached_manifests (repo_id, digest, pool, upstream, fetched, used, cost, rank) VALUES ($1, $2, $3, $4, $5, $5, $6, $7)
		ON CONFLICT (repo_id, digest) DO UPDATE SET upstream = excluded.upstream, used = excluded.used, cost = excluded.cost, rank = excluded.rank`
	sqlTouchCached = `
		UPDATE cached_manifests SET used = $3, rank = $3 + cost
		WHERE repo_id = (SELECT id FROM repositories WHERE name = $1) AND digest = $2 AND used < $3`
	sqlTouchAgain = `
		UPDATE cached_manifests SET upstream = $3, used = $4, cost = $5, rank = $6 WHERE repo_id = $1 AND digest = $2`
	sqlNotCached = `DELETE FROM cached_manifests WHERE repo_id = $1 AND digest = $2`
	sqlIsCached  = `SELECT rank FROM cached_manifests WHERE repo_id = $1 AND digest = $2`

	// Of a copy that is linked for somebody who pushed it, and of one that was
	// fetched: see blobs.cached.
	sqlRevivePushed = `UPDATE blobs SET state = 0, epoch = epoch + 1, cached = 0 WHERE pool = $1 AND digest = $2 AND (state <> 0 OR cached <> 0)`
	sqlReviveCached = `
		UPDATE blobs SET epoch = CASE WHEN state <> 0 THEN epoch + 1 ELSE epoch END, cached = 1, state = 0
		WHERE pool = $1 AND digest = $2 AND (state <> 0 OR cached = 2)`

	sqlCachedBytes = `SELECT COALESCE(SUM(size), 0) FROM blobs WHERE pool = $1 AND cached = 1`
	sqlCachedCount = `SELECT COUNT(*) FROM cached_manifests WHERE pool = $1`

	sqlCachedOf = `
		SELECT c.digest, c.upstream, c.cost, c.fetched, c.used,
			m.size + COALESCE((SELECT SUM(b.size) FROM manifest_references f
				JOIN links l ON l.repo_id = f.repo_id AND l.digest = f.digest
				JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest
				WHERE f.repo_id = c.repo_id AND f.manifest = c.digest), 0)
		FROM cached_manifests c JOIN manifests m ON m.repo_id = c.repo_id AND m.digest = c.digest
		WHERE c.repo_id = $1 AND c.digest > $2 ORDER BY c.digest LIMIT $3`

	sqlPushedTo = `
		SELECT 1 FROM manifests m WHERE m.repo_id = (SELECT id FROM repositories WHERE name = $1)
			AND NOT EXISTS (SELECT 1 FROM cached_manifests c WHERE c.repo_id = m.repo_id AND c.digest = m.digest) LIMIT 1`
)

// sqlClaimBlobs says that what only cached manifests needed is needed by others.
func sqlClaimBlobs(n int) string {
	return "UPDATE blobs SET cached = 0 WHERE cached <> 0 AND pool = $1 AND digest IN (" + sqldb.Placeholders(2, n) + ")"
}

func sqlClaimManifests(n int) string {
	return "DELETE FROM cached_manifests WHERE repo_id = $1 AND digest IN (" + sqldb.Placeholders(2, n) + ")"
}

func sqlReferencesOf(n int) string {
	return "SELECT digest FROM manifest_references WHERE repo_id = $1 AND manifest IN (" + sqldb.Placeholders(2, n) + ")"
}

func sqlRequire(n int) string {
	return "UPDATE manifest_references SET required = true WHERE repo_id = $1 AND manifest = $2 AND digest IN (" + sqldb.Placeholders(3, n) + ")"
}

// sqlFetchedBlobs says that what was evicted is needed again.
func sqlFetchedBlobs(n int) string {
	return "UPDATE blobs SET cached = 1 WHERE cached = 2 AND pool = $1 AND digest IN (" + sqldb.Placeholders(2, n) + ")"
}

// allowPut is allowChange for what is pushed, or fetched: that is done for whoever
// may read it.
func (c *Catalog) allowPut(a registry.Actor, repo registry.Name, fetched bool) error {
	if !fetched {
		return c.allowChange(a, repo, registry.ActCreate)
	}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return err
	}
	if err := c.room(); err != nil {
		return err
	}
	return c.readOnly(repo)
}

// PutCached implements [registry.Cache].
func (c *Catalog) PutCached(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut, o registry.Origin) (registry.ManifestInfo, error) {
	if err := o.Validate(); err != nil {
		return registry.ManifestInfo{}, err
	}
	return c.putManifest(ctx, a, repo, m, &o)
}

// LinkCached implements [registry.Cache].
func (c *Catalog) LinkCached(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	return c.linkAs(ctx, a, repo, s, blobCached)
}

// markCached records where a manifest is from that is being put, or that somebody
// has pushed what was cached.
func (p *put) markCached(tx *sqldb.Tx, f *found) error {
	if p.origin != nil {
		return p.markFetched(tx, f)
	}
	if f.fetched {
		if err := tx.Queue(sqlNotCached, f.repo, p.digest); err != nil {
			return err
		}
		if err := p.requireReferences(tx, f); err != nil {
			return err
		}
	}
	if !f.cached && !f.fetched {
		return nil
	}
	return p.c.claim(tx, f.repo, p.c.poolOf(p.repo), p.packedReferences())
}

// requireReferences says of a manifest that was fetched, and had no need of what it
// refers to, that it needs what is here.
func (p *put) requireReferences(tx *sqldb.Tx, f *found) error {
	var here []any
	for _, r := range p.refs {
		if !r.missing {
			here = append(here, r.packed)
		}
	}
	return sqldb.Padded(here, func(part []any) error {
		return tx.Queue(sqlRequire(len(part)), append([]any{f.repo, p.digest}, part...)...)
	})
}

// claim says that what only cached manifests needed is needed by others: what a
// manifest refers to, and all that these need.
func (c *Catalog) claim(tx *sqldb.Tx, id int64, p registry.Pool, needed []any) error {
	seen := make(map[string]bool)
	for len(needed) > 0 {
		var next []any
		err := sqldb.Padded(needed, func(part []any) error {
			inRepo := append([]any{id}, part...)
			if err := errors.Join(
				tx.Queue(sqlClaimManifests(len(part)), inRepo...),
				tx.Queue(sqlClaimBlobs(len(part)), append([]any{string(p)}, part...)...)); err != nil {
				return err
			}
			return tx.Run(sqldb.Statement{Text: sqlReferencesOf(len(part)), Args: inRepo, Row: func(scan func(dest ...any) error) error {
				var d []byte
				err := scan(&d)
				if !seen[string(d)] {
					seen[string(d)] = true
					next = append(next, d)
				}
				return err
			}})
		})
		if err != nil {
			return fmt.Errorf("claiming cached content: %w", err)
		}
		needed = next
	}
	return nil
}

func (p *put) markFetched(tx *sqldb.Tx, f *found) error {
	now := p.c.now()
	pool, rank := string(p.c.poolOf(p.repo)), rankOf(now, p.origin.Cost)
	if f.manifest { // cached or pushed
		return tx.Queue(sqlTouchAgain, f.repo, p.digest, p.origin.Upstream, now, p.origin.Cost, rank)
	}
	if err := tx.Queue(sqlMarkCached, f.repo, p.digest, pool, p.origin.Upstream, now, p.origin.Cost, rank); err != nil {
		return err
	}
	return sqldb.Padded(p.packedReferences(), func(part []any) error {
		return tx.Queue(sqlFetchedBlobs(len(part)), append([]any{pool}, part...)...)
	})
}

// rankOf is in which order cached content goes.
func rankOf(used, cost int64) int64 { return min(used, math.MaxInt64-cost) + cost }

func (p *put) packedReferences() []any {
	all := make([]any, len(p.refs))
	for i, r := range p.refs {
		all[i] = r.packed
	}
	return all
}

// CacheUsage implements [registry.Cache].
func (c *Catalog) CacheUsage(ctx context.Context, a registry.Actor) ([]registry.CacheUsage, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return nil, err
	}
	var all []registry.CacheUsage
	for _, p := range c.pools() {
		u := registry.CacheUsage{Pool: p, Limit: c.policies.Load().cache.limit(p)}
		if e := c.evicted[p]; e != nil {
			u.Evicted, u.EvictedBytes = e.manifests.Load(), e.bytes.Load()
		}
		var err error
		if u.Bytes, err = c.cachedBytes(ctx, p); err != nil {
			return nil, err
		}
		if err := c.db.QueryRow(ctx, sqlCachedCount, string(p)).Scan(&u.Manifests); err != nil {
			return nil, fmt.Errorf("counting cached manifests: %w", err)
		}
		all = append(all, u)
	}
	return all, nil
}

func (c *Catalog) cachedBytes(ctx context.Context, p registry.Pool) (n int64, err error) {
	if err := c.db.QueryRow(ctx, sqlCachedBytes, string(p)).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting cached content: %w", err)
	}
	return n, nil
}

// CachedManifests implements [registry.Cache].
func (c *Catalog) CachedManifests(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	none := registry.List[registry.CachedManifest]{}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	after := noDigest
	if p.After != "" {
		if after, err = pack(p.After); err != nil {
			return none, err
		}
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return none, err
	}
	var list registry.List[registry.CachedManifest]
	_, err = c.page(ctx, sqlCachedOf, []any{id, after, limit + 1}, func(rows *sqldb.Rows) error {
		if list.More = len(list.Items) == limit; list.More {
			return nil
		}
		var m registry.CachedManifest
		var packed []byte
		err := rows.Scan(&packed, &m.Upstream, &m.Cost, &m.Fetched, &m.Used, &m.Size)
		if err == nil {
			m.Digest, err = unpack(packed)
		}
		list.Items = append(list.Items, m)
		return err
	})
	if err != nil {
		return none, fmt.Errorf("listing cached manifests: %w", err)
	}
	pins, err := c.pins(ctx)
	if err != nil {
		return none, err
	}
	for i := range list.Items {
		m := &list.Items[i]
		packed, err := pack(m.Digest)
		if err != nil {
			return none, err
		}
		if m.Tags, err = c.tagsNow(ctx, id, packed); err != nil {
			return none, err
		}
		if m.Pinned, err = c.pinnedBy(ctx, pins, id, repo, packed); err != nil {
			return none, err
		}
	}
	return list, nil
}

// tagsNow returns the tags that point to a manifest.
func (c *Catalog) tagsNow(ctx context.Context, id int64, digest []byte) (tags []registry.Tag, err error) {
	_, err = c.page(ctx, sqlTagsOf, []any{id, digest}, func(rows *sqldb.Rows) error {
		var t registry.Tag
		err := rows.Scan(&t)
		tags = append(tags, t)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading a manifest's tags: %w", err)
	}
	return tags, nil
}

// PushedTo implements [registry.Cache].
func (c *Catalog) PushedTo(ctx context.Context, a registry.Actor, repo registry.Name) (bool, error) {
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return false, err
	}
	return exists(c.db.QueryRow(ctx, sqlPushedTo, string(repo)))
}
