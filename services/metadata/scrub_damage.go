package metadata

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlSuspect = `UPDATE blobs SET verified_at = -1 WHERE pool = $1 AND digest = $2 AND locator = $3 AND damaged IS NULL`
	// A read that began before a look that found damage must not hide it, nor a
	// request to look.
	sqlRead = `
		UPDATE blobs SET verified_at = $4
		WHERE pool = $1 AND digest = $2 AND locator = $3 AND damaged IS NULL AND verified_at >= 0 AND verified_at < $4`
	sqlHeal = `
		UPDATE blobs SET locator = $3, size = $4, verified_at = $5, damaged = NULL, problem = NULL
		WHERE pool = $1 AND digest = $2 AND damaged IS NOT NULL AND inline IS NULL AND locator <> $3
		AND NOT EXISTS (SELECT 1 FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3)`
	sqlDiscard = `
		INSERT INTO garbage (pool, digest, locator, size, due, attempts) VALUES ($1, $2, $3, $4, $5, 0)
		ON CONFLICT (pool, digest, locator) DO NOTHING`

	sqlDamagedBlobs = `
		SELECT pool, digest, size, damaged, problem FROM blobs
		WHERE damaged IS NOT NULL AND (pool, digest) > ($1, $2) ORDER BY pool, digest LIMIT $3`
	sqlDamagedIn        = `SELECT r.name FROM links l JOIN repositories r ON r.id = l.repo_id WHERE l.digest = $1 AND l.pool = $2 LIMIT $3`
	sqlDamagedManifests = `
		SELECT r.name, m.digest, m.size, m.damaged FROM manifests m JOIN repositories r ON r.id = m.repo_id
		WHERE m.damaged IS NOT NULL AND m.repo_id >= 0 ORDER BY m.repo_id, m.digest`
)

// errBlobDamaged is what who asks for a damaged blob gets.
var errBlobDamaged = registry.ErrBlobUnknown.With("the stored copy of the blob is damaged: push it again")

// ReportReads implements [registry.Scrubbing].
func (c *Catalog) ReportReads(ctx context.Context, reads []registry.ReadReport) error {
	if len(reads) > registry.MaxReports {
		return registry.ErrTooLarge.With("at most %d reports in a call", registry.MaxReports)
	}
	var good []scrubRow
	suspects := false
	for _, r := range reads {
		row := scrubRow{Stored: r.Stored}
		var err error
		if row.packed, err = pack(r.Digest); err != nil {
			return err
		}
		if !r.Damaged {
			good = append(good, row)
			continue
		}
		suspects = true
		if err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error { return c.changeHealth(tx, row, sqlSuspect) }); err != nil {
			return fmt.Errorf("recording that a blob may be damaged: %w", err)
		}
	}
	if suspects {
		c.wakeScrub()
	}
	if len(good) == 0 {
		return nil
	}
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // a row that names another copy now is not changed
			return err
		}
		for _, row := range good {
			if err := tx.Queue(sqlRead, string(row.Pool), row.packed, string(row.Locator), c.now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording verified reads: %w", err)
	}
	return nil
}

// changeHealth changes what is known of a copy's bytes, and keeps what the caches
// have of it from readers meanwhile. The last argument of query is the time, if it
// has one.
func (c *Catalog) changeHealth(tx *sqldb.Tx, row scrubRow, query string) error {
	if err := tx.Lock(decidesCopy(row.Pool, row.Digest)); err != nil {
		return err
	}
	args := []any{string(row.Pool), row.packed, string(row.Locator)}
	if query != sqlSuspect {
		args = append(args, c.now())
	}
	if n, err := tx.Exec(query, args...); err != nil || n == 0 {
		return err
	}
	_, err := c.changesCopy(tx, row.Stored, row.packed)
	return err
}

// markDamaged records that a copy is damaged. It returns repositories that have
// the blob, at most 100, and false if the copy is not the one in use any more.
func (c *Catalog) markDamaged(tx *sqldb.Tx, row scrubRow, problem string) (repos []registry.Name, found bool, err error) {
	if err := tx.Lock(decidesCopy(row.Pool, row.Digest)); err != nil {
		return nil, false, err
	}
	n, err := tx.Exec(sqlDamaged, string(row.Pool), row.packed, string(row.Locator), c.now(), problem)
	if err != nil || n == 0 {
		return nil, false, err
	}
	repos, err = c.changesCopy(tx, row.Stored, row.packed)
	return repos[:min(len(repos), 100)], true, err
}

// changesCopy keeps what the caches have of a blob, in whichever repository, away
// from readers while tx commits. It returns these repositories.
func (c *Catalog) changesCopy(tx *sqldb.Tx, s registry.Stored, digest []byte) ([]registry.Name, error) {
	rows, err := tx.Query(sqlLinkedFrom, digest, string(s.Pool))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var repos []registry.Name
	ch := c.change()
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo); err != nil {
			return nil, err
		}
		repos = append(repos, registry.Name(repo))
		ch.blobs = append(ch.blobs, rowKey{registry.Name(repo), string(s.Digest)})
	}
	ch.attach(tx)
	return repos, rows.Err()
}

// heal puts the copy s, which was pushed just now, in the place of the damaged
// copy old. It returns the copy that is used then.
func (c *Catalog) heal(ctx context.Context, old, s registry.Stored, digest []byte) (registry.Stored, error) {
	healed := false
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		healed = false
		if err := tx.Lock(decidesCopy(s.Pool, s.Digest)); err != nil {
			return err
		}
		pool := string(s.Pool)
		n, err := tx.Exec(sqlHeal, pool, digest, string(s.Locator), s.Size, c.now())
		if err != nil {
			return err
		}
		if n == 0 { // somebody else was first
			return tx.Queue(sqlDiscardSecond, pool, digest, string(s.Locator), s.Size, c.now())
		}
		healed = true
		if err := tx.Queue(sqlDiscard, pool, digest, string(old.Locator), old.Size, c.now()); err != nil {
			return err
		}
		if err := tx.Queue(sqlAddCopyEvent, c.now(), digest, pool, string(s.Locator), s.Size); err != nil {
			return err
		}
		_, err = c.changesCopy(tx, s, digest)
		return err
	})
	if err != nil {
		return registry.Stored{}, fmt.Errorf("replacing a damaged copy: %w", err)
	}
	c.wakeGarbage()
	if healed {
		c.feed.told(1)
		c.meters.healed.Inc()
		c.log.Info("a damaged blob was pushed again and is whole", "digest", s.Digest, "pool", s.Pool)
		return s, nil
	}
	return c.keptCopy(ctx, s, digest)
}

// Damages implements [registry.Scrubbing].
func (c *Catalog) Damages(ctx context.Context, a registry.Actor, after *registry.Damage, limit int) ([]registry.Damage, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return nil, err
	}
	limit = min(max(limit, 1), 1000)
	var all []registry.Damage
	if after == nil || after.Repo == "" {
		blobs, err := c.damagedBlobs(ctx, after, limit)
		for i := range blobs {
			if err == nil {
				err = c.damagedIn(ctx, &blobs[i])
			}
		}
		if err != nil || len(blobs) == limit {
			return blobs, err
		}
		all, after = blobs, nil
	}
	manifests, err := c.damagedManifests(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range manifests {
		if after != nil && orderOf(m) <= orderOf(*after) {
			continue
		}
		if all = append(all, m); len(all) == limit {
			break
		}
	}
	return all, nil
}

func (c *Catalog) damagedBlobs(ctx context.Context, after *registry.Damage, limit int) ([]registry.Damage, error) {
	pool, digest := "", []byte{}
	if after != nil {
		var err error
		if digest, err = pack(after.Digest); err != nil {
			return nil, err
		}
		pool = string(after.Pool)
	}
	rows, err := c.db.Query(ctx, sqlDamagedBlobs, pool, digest, limit)
	if err != nil {
		return nil, fmt.Errorf("listing damaged blobs: %w", err)
	}
	defer rows.Close()
	var all []registry.Damage
	for rows.Next() {
		var d registry.Damage
		var packed []byte
		var reason *string
		if err := rows.Scan(&d.Pool, &packed, &d.Size, &d.Found, &reason); err != nil {
			return nil, fmt.Errorf("listing damaged blobs: %w", err)
		}
		if reason != nil {
			d.Reason = *reason
		}
		if d.Digest, err = unpack(packed); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

// damagedIn reads which repositories have a damaged blob.
func (c *Catalog) damagedIn(ctx context.Context, d *registry.Damage) error {
	packed, err := pack(d.Digest)
	if err != nil {
		return err
	}
	_, err = c.page(ctx, sqlDamagedIn, []any{packed, string(d.Pool), registry.MaxDamageRepos}, func(rows *sqldb.Rows) error {
		var repo registry.Name
		err := rows.Scan(&repo)
		d.Repos = append(d.Repos, repo)
		return err
	})
	if err != nil {
		return fmt.Errorf("reading which repositories have a damaged blob: %w", err)
	}
	return nil
}

// damagedManifests returns all damaged manifests, by repository and digest. Where
// the database is damaged in more than a few places they are not the trouble.
func (c *Catalog) damagedManifests(ctx context.Context) ([]registry.Damage, error) {
	rows, err := c.db.Query(ctx, sqlDamagedManifests)
	if err != nil {
		return nil, fmt.Errorf("listing damaged manifests: %w", err)
	}
	defer rows.Close()
	var all []registry.Damage
	for rows.Next() {
		d := registry.Damage{Reason: manifestProblem}
		var packed []byte
		if err := rows.Scan(&d.Repo, &packed, &d.Size, &d.Found); err != nil {
			return nil, fmt.Errorf("listing damaged manifests: %w", err)
		}
		if d.Digest, err = unpack(packed); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	slices.SortFunc(all, func(a, b registry.Damage) int { return strings.Compare(orderOf(a), orderOf(b)) })
	return all, rows.Err()
}

// orderOf is what damaged manifests are ordered by.
func orderOf(d registry.Damage) string { return string(d.Repo) + " " + string(d.Digest) }

// ScrubStatus implements [registry.Scrubbing].
func (c *Catalog) ScrubStatus(ctx context.Context, a registry.Actor) (registry.ScrubStatus, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return registry.ScrubStatus{}, err
	}
	s, err := c.readScrub(ctx)
	if err != nil {
		return registry.ScrubStatus{}, err
	}
	status := registry.ScrubStatus{Rate: c.policies.Load().scrub.Rate, Requested: s.requested, Blobs: s.blobs, Bytes: s.bytes, Manifests: s.manifests}
	if c.policies.Load().scrub.On {
		status.Interval = c.scrubInterval().Microseconds()
	}
	oldest, found, err := c.oldestLook(ctx)
	if err != nil {
		return registry.ScrubStatus{}, err
	}
	status.Oldest = max(oldest, 0)
	before := c.scrubBefore(s)
	status.Waiting = found && (oldest < 0 || oldest < before) || s.began < before || !s.ended()
	status.Damaged, err = c.damages(ctx)
	return status, err
}

// damages counts what is damaged.
func (c *Catalog) damages(ctx context.Context) (n int64, err error) {
	if err := c.db.QueryRow(ctx, sqlAllDamage).Scan(&n); err != nil {
		return 0, fmt.Errorf("counting what is damaged: %w", err)
	}
	return n, nil
}

// StartScrub implements [registry.Scrubbing].
func (c *Catalog) StartScrub(ctx context.Context, a registry.Actor) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	if c.reaper == nil {
		return registry.ErrUnsupported.Because(errors.New("the catalog was opened without a blobstore"))
	}
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // one row, which is lock enough
			return err
		}
		if err := tx.Queue(sqlAddScrub, []byte{}); err != nil {
			return err
		}
		return tx.Queue(sqlAskScrub, c.now())
	})
	if err != nil {
		return fmt.Errorf("asking for a scrub: %w", err)
	}
	c.wakeScrub()
	return nil
}
