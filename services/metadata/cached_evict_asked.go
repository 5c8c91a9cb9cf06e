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

// EvictCached implements [registry.Cache].
func (c *Catalog) EvictCached(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) (registry.Eviction, error) {
	if err := c.allowChange(a, repo, registry.ActDelete); err != nil {
		return registry.Eviction{}, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return registry.Eviction{}, err
	}
	if r == (registry.Reference{}) {
		return c.evictAll(ctx, id, repo, a)
	}
	x := candidate{id: id, repo: repo}
	if r.Tag != "" {
		err := c.db.QueryRow(ctx, sqlTag, id, string(r.Tag)).Scan(&x.digest)
		if errors.Is(err, sql.ErrNoRows) {
			return registry.Eviction{}, registry.ErrManifestUnknown
		}
		if err != nil {
			return registry.Eviction{}, fmt.Errorf("reading a tag: %w", err)
		}
		return c.evictManifest(ctx, x, a)
	}
	if x.digest, err = pack(r.Digest); err != nil {
		return registry.Eviction{}, err
	}
	if is, err := exists(c.db.QueryRow(ctx, sqlHasManifest, id, x.digest)); err != nil {
		return registry.Eviction{}, err
	} else if !is {
		return c.evictBlob(ctx, repo, r.Digest, a)
	}
	return c.evictManifest(ctx, x, a)
}

// UntagCached implements [registry.Cache]. Who pushes takes the lock of the tag, too.
func (c *Catalog) UntagCached(ctx context.Context, a registry.Actor, repo registry.Name, t registry.Tag, d registry.Digest) error {
	return c.deleteTag(ctx, a, repo, t, func(tx *sqldb.Tx, id int64, old []byte) error {
		if err := holds(registry.Condition{Match: d}, old); err != nil {
			return err
		}
		if is, err := exists(tx.QueryRow(sqlIsCached, id, old)); err != nil || is {
			return err
		}
		return registry.ErrInUse
	})
}

// evictAll evicts what is cached in a repository, for evictTime.
func (c *Catalog) evictAll(ctx context.Context, id int64, repo registry.Name, a registry.Actor) (sum registry.Eviction, err error) {
	until := time.Now().Add(evictTime)
	for after := noDigest; ; {
		var some [][]byte
		_, err := c.page(ctx, sqlSomeCached, []any{id, after, evictPage}, func(rows *sqldb.Rows) error {
			var d []byte
			err := rows.Scan(&d)
			some = append(some, d)
			return err
		})
		if err != nil {
			return sum, fmt.Errorf("reading what is cached: %w", err)
		}
		for _, d := range some {
			after = d
			done, err := c.evictManifest(ctx, candidate{id: id, repo: repo, digest: d}, a)
			if err != nil && !notEvicted(err) {
				return sum, err
			}
			sum.Manifests += done.Manifests
			sum.Bytes += done.Bytes
			if sum.Manifests > 0 && time.Now().After(until) {
				sum.More = true
				return sum, nil
			}
		}
		if len(some) < evictPage {
			return sum, nil
		}
	}
}
