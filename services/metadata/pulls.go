package metadata

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlCountPull = `
		INSERT INTO pulls (repo_id, digest, tag, actor, at, times)
		SELECT m.repo_id, m.digest, $3, $4, $5, $6 FROM repositories r JOIN manifests m ON m.repo_id = r.id AND m.digest = $2
		WHERE r.name = $1
		ON CONFLICT (repo_id, digest, tag) DO UPDATE SET
			times = pulls.times + excluded.times,
			actor = CASE WHEN pulls.at > excluded.at THEN pulls.actor ELSE excluded.actor END,
			at = CASE WHEN pulls.at > excluded.at THEN pulls.at ELSE excluded.at END`

	// $3 and $4 are what was the last, or nothing and no tag.
	sqlPulls = `SELECT tag, actor, at, times FROM pulls WHERE repo_id = $1 AND digest = $2 AND tag >= $3 AND tag <> $4 ORDER BY tag LIMIT $5`
)

// pullsBatch is how many entries one transaction counts.
const pullsBatch = 100

// CountPulls adds to the statistics of manifests. None is later than now: a gateway whose
// clock is ahead would keep what was pulled for as long.
func (c *Catalog) CountPulls(ctx context.Context, pulls []registry.Pull) error {
	if len(pulls) > registry.MaxPulls {
		return registry.ErrTooLarge.With("at most %d entries at a time", registry.MaxPulls)
	}
	// In one order, so that two reports never wait for each other's rows.
	pulls = slices.Clone(pulls)
	now := c.now()
	slices.SortFunc(pulls, func(a, b registry.Pull) int {
		return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest), cmp.Compare(a.Tag, b.Tag))
	})
	for part := range slices.Chunk(pulls, pullsBatch) {
		err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil { // the rows are lock enough
				return err
			}
			for _, p := range part {
				digest, err := pack(p.Digest)
				if err != nil {
					return err
				}
				if err := tx.Queue(sqlCountPull, string(p.Repository), digest, string(p.Tag), p.Actor, min(p.At, now), p.Count); err != nil {
					return err
				}
				if err := tx.Queue(sqlTouchCached, string(p.Repository), digest, min(p.At, now)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("counting pulls: %w", err)
		}
	}
	return nil
}

// noTag is no tag: they don't begin with a dash.
const noTag = "-"

// PullsOf lists the statistics of a manifest.
func (c *Catalog) PullsOf(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, p registry.Page[registry.Tag]) (registry.List[registry.Pull], error) {
	none := registry.List[registry.Pull]{}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	digest, err := pack(d)
	if err != nil {
		return none, err
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return none, err
	}
	rows, err := c.db.Query(ctx, sqlPulls, id, digest, string(p.After), cmp.Or(string(p.After), noTag), limit+1)
	if err != nil {
		return none, fmt.Errorf("reading pull statistics: %w", err)
	}
	defer rows.Close()
	var list registry.List[registry.Pull]
	for rows.Next() {
		if list.More = len(list.Items) == limit; list.More {
			break
		}
		x := registry.Pull{Repository: repo, Digest: d}
		if err := rows.Scan(&x.Tag, &x.Actor, &x.At, &x.Count); err != nil {
			return none, fmt.Errorf("reading pull statistics: %w", err)
		}
		list.Items = append(list.Items, x)
	}
	return list, rows.Err()
}
