package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlRepoName     = `SELECT name FROM repositories WHERE id = $1`
	sqlReviewOver   = `DELETE FROM reviews WHERE repo_id = $1 AND digest = $2 AND kind = $3 AND pool = $4 AND due <= $5`
	sqlReviewLater  = `UPDATE reviews SET due = $5 WHERE repo_id = $1 AND digest = $2 AND kind = $3 AND pool = $4`
	sqlIsBeingTaken = `SELECT 1 FROM adoptions WHERE repo = $1 AND state = 0`
	sqlIsDeleted    = `SELECT (SELECT until FROM deleted_repositories WHERE id = $1), EXISTS (SELECT 1 FROM repositories WHERE id = $1)`
)

// decide decides on reviews: those of content of repositories in one transaction,
// those of blobs in another, and those of repositories each in one of its own.
func (c *Catalog) decide(ctx context.Context, all []due) (Collected, error) {
	sum := Collected{Reviews: int64(len(all))}
	content, blobs, repos, err := c.sortReviews(ctx, all)
	if err != nil {
		return sum, err
	}
	if len(content) > 0 {
		if err := c.decideContent(ctx, content, &sum); err != nil {
			return sum, err
		}
	}
	if len(blobs) > 0 {
		if err := c.decideBlobs(ctx, blobs, &sum); err != nil {
			return sum, err
		}
	}
	for _, d := range repos {
		if err := c.decideRepository(ctx, d, &sum); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// sortReviews tells reviews of different kinds apart. Those of what a deleted
// repository has wait until that can't be undone any more, and those of nothing
// are over.
func (c *Catalog) sortReviews(ctx context.Context, all []due) (content, blobs, repos []due, err error) {
	names := make(map[int64]registry.Name)
	var look []sqldb.Statement
	var others []due
	for _, d := range all {
		switch d.kind {
		case reviewBlob:
			blobs = append(blobs, d)
			continue
		case reviewRepository:
			repos = append(repos, d)
			continue
		}
		if _, ok := names[d.repoID]; ok {
			continue
		}
		names[d.repoID] = ""
		look = append(look, sqldb.Statement{Text: sqlRepoName, Args: []any{d.repoID}, Row: func(scan func(dest ...any) error) error {
			var name registry.Name
			err := scan(&name)
			names[d.repoID] = name
			return err
		}})
	}
	if err := c.db.Reads(ctx, look...); err != nil {
		return nil, nil, nil, fmt.Errorf("reading names of repositories: %w", err)
	}
	for _, d := range all {
		if d.kind == reviewBlob || d.kind == reviewRepository {
			continue
		}
		if d.repo = names[d.repoID]; d.repo == "" {
			others = append(others, d)
		} else {
			content = append(content, d)
		}
	}
	return content, blobs, repos, c.passOver(ctx, others)
}

// passOver postpones reviews of what belongs to repositories that were deleted.
func (c *Catalog) passOver(ctx context.Context, all []due) error {
	if len(all) == 0 {
		return nil
	}
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // rows of the queue only
			return err
		}
		now := c.now()
		for _, d := range all {
			var until sql.NullInt64
			var restored bool // since somebody looked: its reviews are as good as any
			err := tx.QueryRow(sqlIsDeleted, d.repoID).Scan(&until, &restored)
			switch {
			case err != nil || restored:
			case until.Valid:
				err = tx.Queue(sqlReviewLater, d.repoID, d.packed, d.kind, string(d.pool), max(until.Int64, now)+fence.Microseconds())
			default:
				err = tx.Queue(sqlReviewOver, d.repoID, d.packed, d.kind, string(d.pool), now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// repositoriesOf returns the locks of the repositories that reviews are about.
func (c *Catalog) repositoriesOf(all []due) []sqldb.Lock {
	var names []registry.Name
	for _, d := range all {
		names = append(names, d.repo)
	}
	slices.Sort(names)
	var locks []sqldb.Lock
	for _, n := range slices.Compact(names) {
		locks = append(locks, removesFrom(n))
	}
	return append(locks, c.limits().quotaLocks(names...)...)
}

const (
	// Why a manifest stays: it has a tag, an index lists it, or its subject is here.
	sqlIsNeeded = `
		SELECT (SELECT 1 FROM tags t WHERE t.repo_id = m.repo_id AND t.digest = m.digest LIMIT 1) IS NOT NULL
			OR (SELECT 1 FROM manifest_references f WHERE f.repo_id = m.repo_id AND f.digest = m.digest LIMIT 1) IS NOT NULL
			OR (SELECT 1 FROM manifests s WHERE s.repo_id = m.repo_id AND s.digest = m.subject LIMIT 1) IS NOT NULL
		FROM manifests m JOIN reviews v ON v.repo_id = m.repo_id AND v.digest = m.digest AND v.kind = 1 AND v.due <= $3
		WHERE m.repo_id = $1 AND m.digest = $2`

	// A link goes if its review is due and no manifest of the repository refers to it.
	sqlReviewBlob = `
		INSERT INTO reviews (repo_id, digest, kind, pool, due, lease, epoch)
		SELECT 0, l.digest, 3, l.pool, $3, 0, 0
		FROM links l JOIN reviews v ON v.repo_id = l.repo_id AND v.digest = l.digest AND v.kind = 2 AND v.due <= $3
		WHERE l.repo_id = $1 AND l.digest = $2
			AND NOT EXISTS (SELECT 1 FROM manifest_references f WHERE f.repo_id = $1 AND f.digest = $2)
		ON CONFLICT (repo_id, digest, kind, pool) DO NOTHING`
	sqlCollectLink = `
		DELETE FROM links WHERE repo_id = $1 AND digest = $2
			AND EXISTS (SELECT 1 FROM reviews v WHERE v.repo_id = $1 AND v.digest = $2 AND v.kind = 2 AND v.due <= $3)
			AND NOT EXISTS (SELECT 1 FROM manifest_references f WHERE f.repo_id = $1 AND f.digest = $2)`
)

// collectorActor is who removes what nobody has asked to be removed.
var collectorActor = registry.Actor{ID: "garbage collection"}

// decideContent decides on manifests and links.
func (c *Catalog) decideContent(ctx context.Context, all []due, sum *Collected) error {
	// In an order of their own, so that who has just pushed an index can't meet
	// its children in the order in which they go.
	slices.SortStableFunc(all, func(a, b due) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.repo, b.repo), slices.Compare(a.packed, b.packed))
	})
	if err := c.retained(ctx, all); err != nil {
		return err
	}
	var done Collected
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		done = Collected{}
		if err := tx.Lock(c.repositoriesOf(all)...); err != nil {
			return err
		}
		now, ch := c.now(), c.change()
		ripe, err := c.ripe(tx, all, now)
		if err != nil {
			return err
		}
		if err := c.decideManifests(tx, ch, ripe, now, &done); err != nil {
			return err
		}
		if err := c.decideLinks(tx, ch, ripe, now, &done); err != nil {
			return err
		}
		ch.attach(tx)
		return nil
	})
	if err == nil {
		sum.add(done)
	}
	return err
}

// ripe returns the reviews of repositories that are not being taken over, and
// postpones the others: the tags and indexes that need their content come last,
// and if the take-over was interrupted, after the next start.
func (c *Catalog) ripe(tx *sqldb.Tx, all []due, now int64) ([]due, error) {
	begun := make(map[registry.Name]bool)
	var look []sqldb.Statement
	for _, d := range all {
		if _, ok := begun[d.repo]; ok {
			continue
		}
		begun[d.repo] = false
		look = append(look, sqldb.Statement{Text: sqlIsBeingTaken, Args: []any{string(d.repo)}, Row: func(func(dest ...any) error) error {
			begun[d.repo] = true
			return nil
		}})
	}
	if err := tx.Run(look...); err != nil {
		return nil, fmt.Errorf("looking what is being taken over: %w", err)
	}
	var ripe []due
	for _, d := range all {
		if !begun[d.repo] {
			ripe = append(ripe, d)
			continue
		}
		if err := tx.Queue(sqlReviewLater, d.repoID, d.packed, d.kind, string(d.pool), c.droppedAt(d.pool, now)); err != nil {
			return nil, err
		}
	}
	return ripe, nil
}

func (c *Catalog) decideManifests(tx *sqldb.Tx, ch *change, all []due, now int64, done *Collected) error {
	goes := make([]bool, len(all))
	var look []sqldb.Statement
	for i, d := range all {
		if d.kind != reviewManifest {
			continue
		}
		look = append(look, sqldb.Statement{Text: sqlIsNeeded, Args: []any{d.repoID, d.packed, now}, Row: func(scan func(dest ...any) error) error {
			var needed bool
			err := scan(&needed)
			goes[i] = !needed
			return err
		}})
	}
	if len(look) == 0 {
		return nil
	}
	if err := tx.Run(look...); err != nil {
		return fmt.Errorf("looking who needs a manifest: %w", err)
	}
	return tx.Group(func() error {
		for i, d := range all {
			if d.kind == reviewManifest {
				if err := c.decideManifest(tx, ch, d, goes[i], now, done); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (c *Catalog) decideManifest(tx *sqldb.Tx, ch *change, d due, goes bool, now int64, done *Collected) error {
	if goes && d.retained {
		return tx.Queue(sqlReviewLater, d.repoID, d.packed, d.kind, string(d.pool), now+retainedAgain.Microseconds())
	}
	if goes {
		digest, err := unpack(d.packed)
		if err != nil {
			return err
		}
		ch.manifests = append(ch.manifests, rowKey{d.repo, string(digest)})
		if err := c.removeManifest(tx, ch, d.repoID, d.repo, d.packed, c.droppedAt(d.pool, now), collectorActor); err != nil {
			return err
		}
		// Nobody has said that it is to stay away: should the index it was taken
		// over from name it again it comes back.
		if err := tx.Queue(sqlForgetOne, string(d.repo), d.packed); err != nil {
			return err
		}
		done.Manifests++
	}
	return tx.Queue(sqlReviewOver, d.repoID, d.packed, d.kind, string(d.pool), now)
}

func (c *Catalog) decideLinks(tx *sqldb.Tx, ch *change, all []due, now int64, done *Collected) error {
	var blobs, collect, over []sqldb.Statement
	emptied := make(map[int64]registry.Pool)
	var gone []due
	for _, d := range all {
		if d.kind != reviewLink {
			continue
		}
		digest, err := unpack(d.packed)
		if err != nil {
			return err
		}
		ch.blobs = append(ch.blobs, rowKey{d.repo, string(digest)})
		args := []any{d.repoID, d.packed, now}
		blobs = append(blobs, sqldb.Statement{Text: sqlReviewBlob, Args: args})
		collect = append(collect, sqldb.Statement{Text: sqlCollectLink, Args: args, Changed: func(n int64) {
			if n > 0 {
				done.Links += n
				emptied[d.repoID] = d.pool
				gone = append(gone, d)
			}
		}})
		over = append(over, sqldb.Statement{Text: sqlReviewOver, Args: []any{d.repoID, d.packed, d.kind, string(d.pool), now}})
	}
	if len(over) == 0 {
		return nil
	}
	if err := tx.Run(slices.Concat(blobs, collect, over)...); err != nil {
		return fmt.Errorf("removing links: %w", err)
	}
	for _, d := range gone {
		if err := c.discharge(tx, d.repoID, d.repo, d.packed); err != nil {
			return err
		}
	}
	for _, d := range gone {
		if err := c.tell(tx, BlobUnlinked, d.repoID, collectorActor, d.packed); err != nil {
			return err
		}
	}
	for id, p := range emptied {
		if err := c.review(tx, id, noDigest, reviewRepository, p, now, 0); err != nil {
			return err
		}
	}
	return nil
}
