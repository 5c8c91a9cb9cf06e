package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	// cacheEvery is the time between two looks at how much is cached.
	cacheEvery = 10 * time.Second
	// cacheRecent is how long content stays that was just fetched or pulled: who
	// pulls it is not done yet.
	cacheRecent = time.Minute
	// evictTime is how long one call of EvictCached works.
	evictTime = 5 * time.Second
	// evictPage is how many candidates one query reads.
	evictPage = 64
)

// evictor is who removes cached content, in histories and events.
var evictor = registry.Actor{ID: "cache"}

const (
	sqlCandidates = `
		SELECT c.rank, c.repo_id, c.digest, r.name FROM cached_manifests c JOIN repositories r ON r.id = c.repo_id
		WHERE c.pool = $1 AND (c.rank, c.repo_id, c.digest) > ($2, $3, $4) AND c.used < $5
		ORDER BY c.rank, c.repo_id, c.digest LIMIT $6`
	sqlSomeCached = `SELECT digest FROM cached_manifests WHERE repo_id = $1 AND digest > $2 ORDER BY digest LIMIT $3`

	// Something that was pushed needs the content.
	sqlPushedNeeds = `
		SELECT 1 FROM manifest_references f WHERE f.repo_id = $1 AND f.digest = $2
			AND NOT EXISTS (SELECT 1 FROM cached_manifests c WHERE c.repo_id = f.repo_id AND c.digest = f.manifest) LIMIT 1`
	sqlPushedAbout = `
		SELECT 1 FROM manifests m WHERE m.repo_id = $1 AND m.subject = $2
			AND NOT EXISTS (SELECT 1 FROM cached_manifests c WHERE c.repo_id = m.repo_id AND c.digest = m.digest) LIMIT 1`
	sqlNotRequired = `UPDATE manifest_references SET required = false WHERE repo_id = $1 AND digest = $2`
	sqlLinkOf      = `SELECT l.pool, b.size, b.cached FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = $1 AND l.digest = $2`
	sqlUnusedOne   = `
		UPDATE blobs SET cached = 2 WHERE cached = 1 AND pool = $1 AND digest = $2
			AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = blobs.digest AND l.pool = blobs.pool)`
)

// sqlUnused is about the blobs of a manifest that was evicted and that no other
// manifest needs, in whichever repository.
func sqlUnused(what string, n int) string {
	return what + " WHERE cached = 1 AND pool = $1 AND digest IN (" + sqldb.Placeholders(2, n) + `)
		AND NOT EXISTS (SELECT 1 FROM links l JOIN manifest_references f ON f.repo_id = l.repo_id AND f.digest = l.digest
			WHERE l.digest = blobs.digest AND l.pool = blobs.pool)`
}

const (
	sumBlobs    = "SELECT COALESCE(SUM(size), 0), COUNT(*) FROM blobs"
	unusedBlobs = "UPDATE blobs SET cached = 2"
)

// keepCache keeps cached content within its limits until ctx ends.
func (c *Catalog) keepCache(ctx context.Context) {
	lease := c.db.Lease("cache")
	full := make(map[registry.Pool]int64) // what was there when storage got scarce
	for c.sleep(ctx, cacheEvery) {
		taken, err := lease.Take(ctx, 6*cacheEvery)
		if err == nil && taken {
			for _, p := range c.pools() {
				if err = c.trimCache(ctx, p, full); err != nil {
					break
				}
			}
		}
		if err != nil && ctx.Err() == nil {
			c.log.Error("evicting cached content", "error", err)
		}
	}
	if err := lease.Give(context.WithoutCancel(ctx)); err != nil {
		c.log.Debug("giving back the lease of the cache", "error", err)
	}
}

// trimCache evicts from a pool what is too much. full has how much was cached when
// storage got scarce: at its scarcest nothing of that stays, but for pins.
func (c *Catalog) trimCache(ctx context.Context, p registry.Pool, full map[registry.Pool]int64) error {
	if c.policy(p).Off {
		return nil
	}
	used, err := c.cachedBytes(ctx, p)
	if err != nil {
		return err
	}
	target, recent := used, cacheRecent
	if limit := c.policies.Load().cache.limit(p); limit > 0 && used > limit {
		target = limit - limit/10 // so that not each fetch evicts something
	}
	if pressure := c.pressure.Load().of(p); pressure > 0 {
		if _, ok := full[p]; !ok {
			full[p] = used
		}
		if wanted := full[p] - full[p]/1000*pressure; wanted < target {
			target, recent = wanted, 0
		}
	} else {
		delete(full, p)
	}
	if target >= used {
		return nil
	}
	done, err := c.evictDownTo(ctx, p, used, target, recent)
	if done.Manifests > 0 {
		c.log.InfoContext(ctx, "evicted cached content", "pool", p, "manifests", done.Manifests, "bytes", done.Bytes, "cached", used-done.Bytes, "wanted", target)
	}
	return err
}

// candidate is a cached manifest that may go.
type candidate struct {
	rank, id int64
	digest   []byte
	repo     registry.Name
}

// evictDownTo evicts until no more than target bytes of a pool are cached content,
// or all that is left must stay.
func (c *Catalog) evictDownTo(ctx context.Context, p registry.Pool, used, target int64, recent time.Duration) (sum registry.Eviction, err error) {
	pins, err := c.pins(ctx)
	if err != nil {
		return sum, err
	}
	before := c.opt.Now().Add(-recent).UnixMicro()
	last := candidate{rank: -1, digest: noDigest}
	for used-sum.Bytes > target {
		some, err := c.candidates(ctx, p, last, before)
		if err != nil || len(some) == 0 {
			return sum, err
		}
		for _, x := range some {
			if used-sum.Bytes <= target {
				return sum, nil
			}
			last = x
			if c.readOnly(x.repo) != nil {
				continue
			}
			pinned, err := c.pinnedBy(ctx, pins, x.id, x.repo, x.digest)
			if err != nil {
				return sum, err
			}
			if pinned != "" {
				continue
			}
			done, err := c.evictManifest(ctx, x, evictor)
			if errors.Is(err, registry.ErrManifestUnknown) { // somebody else evicts, too
				if used, err = c.cachedBytes(ctx, p); err != nil {
					return sum, err
				}
				used += sum.Bytes
				continue
			}
			if err != nil && !notEvicted(err) {
				return sum, err
			}
			sum.Manifests += done.Manifests
			sum.Bytes += done.Bytes
		}
	}
	return sum, nil
}

func (c *Catalog) candidates(ctx context.Context, p registry.Pool, last candidate, before int64) (all []candidate, err error) {
	_, err = c.page(ctx, sqlCandidates, []any{string(p), last.rank, last.id, last.digest, before, evictPage}, func(rows *sqldb.Rows) error {
		var x candidate
		err := rows.Scan(&x.rank, &x.id, &x.digest, &x.repo)
		all = append(all, x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("looking for what to evict: %w", err)
	}
	return all, nil
}

// evictManifest removes a cached manifest. Its rank must still be x.rank, if that is
// not 0: it may have been pulled meanwhile.
func (c *Catalog) evictManifest(ctx context.Context, x candidate, a registry.Actor) (done registry.Eviction, err error) {
	p := c.poolOf(x.repo)
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		done = registry.Eviction{}
		if err := tx.Lock(append([]sqldb.Lock{removesFrom(x.repo)}, c.limits().quotaLocks(x.repo)...)...); err != nil {
			return err
		}
		id, err := repoID(tx, x.repo)
		if errors.Is(err, registry.ErrNameUnknown) || err == nil && id != x.id {
			return registry.ErrManifestUnknown
		}
		if err != nil {
			return err
		}
		switch stays, err := c.mustStay(tx, x); {
		case err != nil:
			return err
		case stays:
			return registry.ErrInUse.With("it was pushed, or something needs it that was pushed")
		}
		return c.evict(tx, x, p, a, &done)
	})
	if err != nil {
		return registry.Eviction{}, err
	}
	if e := c.evicted[p]; e != nil {
		e.manifests.Add(done.Manifests)
		e.bytes.Add(done.Bytes)
	}
	c.meters.evicted.Add(done.Manifests)
	return done, nil
}

// mustStay reports whether a manifest is not to be evicted.
func (c *Catalog) mustStay(tx *sqldb.Tx, x candidate) (bool, error) {
	var rank int64
	err := tx.QueryRow(sqlIsCached, x.id, x.digest).Scan(&rank)
	if errors.Is(err, sql.ErrNoRows) {
		there, err := exists(tx.QueryRow(sqlHasManifest, x.id, x.digest))
		if err == nil && !there {
			err = registry.ErrManifestUnknown
		}
		return true, err
	}
	if err != nil {
		return false, fmt.Errorf("reading what is cached: %w", err)
	}
	if x.rank != 0 && rank != x.rank {
		return true, nil
	}
	for _, q := range []string{sqlPushedNeeds, sqlPushedAbout} {
		if stays, err := exists(tx.QueryRow(q, x.id, x.digest)); err != nil || stays {
			return stays, err
		}
	}
	return false, nil
}

func (c *Catalog) evict(tx *sqldb.Tx, x candidate, p registry.Pool, a registry.Actor, done *registry.Eviction) error {
	d, err := unpack(x.digest)
	if err != nil {
		return err
	}
	ch := c.change()
	ch.manifests = append(ch.manifests, rowKey{x.repo, string(d)})
	tags, err := tagsOf(tx, x.id, x.digest)
	if err != nil {
		return err
	}
	for _, t := range tags {
		if err := c.limits().keepsTag(x.repo, t); err != nil {
			return err
		}
		if err := c.removeTag(tx, x.id, t, a); err != nil {
			return err
		}
		ch.tags = append(ch.tags, rowKey{x.repo, string(t)})
	}
	blobs, err := referencesOf(tx, x.id, x.digest)
	if err != nil {
		return err
	}
	if err := tx.Queue(sqlNotRequired, x.id, x.digest); err != nil { // of cached indexes
		return err
	}
	if err := c.removeManifest(tx, ch, x.id, x.repo, x.digest, c.dropped(p), a); err != nil {
		return err
	}
	done.Manifests++
	err = sqldb.Padded(blobs, func(part []any) error {
		args := append([]any{string(p)}, part...)
		var bytes, n int64
		if err := tx.QueryRow(sqlUnused(sumBlobs, len(part)), args...).Scan(&bytes, &n); err != nil {
			return err
		}
		done.Bytes += bytes
		if n == 0 {
			return nil
		}
		return tx.Queue(sqlUnused(unusedBlobs, len(part)), args...)
	})
	if err != nil {
		return fmt.Errorf("counting what was evicted: %w", err)
	}
	ch.attach(tx)
	return nil
}

// referencesOf returns what a manifest refers to.
func referencesOf(tx *sqldb.Tx, id int64, digest []byte) (all []any, err error) {
	err = tx.Run(sqldb.Statement{Text: sqlDigestsIn, Args: []any{id, digest}, Row: func(scan func(dest ...any) error) error {
		var d []byte
		err := scan(&d)
		all = append(all, d)
		return err
	}})
	if err != nil {
		return nil, fmt.Errorf("reading what a manifest refers to: %w", err)
	}
	return all, nil
}

// evictBlob makes a blob unknown in a repository in which only cached manifests, or
// none, need it.
func (c *Catalog) evictBlob(ctx context.Context, repo registry.Name, d registry.Digest, a registry.Actor) (done registry.Eviction, err error) {
	digest, err := pack(d)
	if err != nil {
		return done, err
	}
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		done = registry.Eviction{}
		if err := tx.Lock(append([]sqldb.Lock{removesFrom(repo)}, c.limits().quotaLocks(repo)...)...); err != nil {
			return err
		}
		id, err := repoID(tx, repo)
		if err != nil {
			return err
		}
		var pool string
		var size int64
		var cached int
		err = tx.QueryRow(sqlLinkOf, id, digest).Scan(&pool, &size, &cached)
		if errors.Is(err, sql.ErrNoRows) {
			return registry.ErrManifestUnknown.With("the repository has no such content")
		}
		if err != nil {
			return fmt.Errorf("reading a link: %w", err)
		}
		if stays, err := exists(tx.QueryRow(sqlPushedNeeds, id, digest)); err != nil {
			return err
		} else if stays {
			return registry.ErrInUse.With("something needs it that was pushed")
		}
		if used, err := exists(tx.QueryRow(sqlIsReferenced, id, digest)); err != nil {
			return err
		} else if !used && cached == blobPushed {
			return registry.ErrInUse.With("it was pushed")
		}
		due := c.dropped(registry.Pool(pool))
		err = errors.Join(
			tx.Queue(sqlNotRequired, id, digest),
			tx.Queue(sqlReviewBlobOf, id, digest, due),
			tx.Queue(sqlUnlink, id, digest),
			c.discharge(tx, id, repo, digest),
			c.tell(tx, BlobUnlinked, id, a, digest),
			c.review(tx, id, noDigest, reviewRepository, c.poolOf(repo), due, 0))
		if err != nil {
			return err
		}
		n, err := tx.Exec(sqlUnusedOne, pool, digest)
		if err != nil {
			return fmt.Errorf("counting what was evicted: %w", err)
		}
		done.Blobs++
		if n > 0 {
			done.Bytes = size
		}
		c.changesBlob(tx, repo, d)
		return nil
	})
	if err != nil {
		return registry.Eviction{}, err
	}
	return done, nil
}

// notEvicted reports whether an error says that a manifest is not evicted, or not there.
func notEvicted(err error) bool {
	return errors.Is(err, registry.ErrInUse) || errors.Is(err, registry.ErrManifestUnknown) || errors.Is(err, registry.ErrDenied)
}
