package metadata

import (
	"context"
	"math"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/retention"
)

const (
	sqlRetentionRepos = `SELECT name, id FROM repositories WHERE name > $1 ORDER BY name LIMIT $2`

	// A pull of what has been gone for so long is of no interest.
	sqlForgetPulls = `
		DELETE FROM pulls WHERE repo_id = $1 AND at < $2
		AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repo_id = pulls.repo_id AND m.digest = pulls.digest)`
)

const (
	// retentionFirst is the time between the start of a process and its first run,
	// in which pulls of the time before arrive.
	retentionFirst = time.Minute
	// retentionLook is how often a process asks whether it is its turn, if another
	// had it last.
	retentionLook = 10 * time.Minute
	// retentionHold is how long there is no run after the clock was set forward:
	// time to set it right before all tags are old.
	retentionHold = 24 * time.Hour
	// retentionShare is which part of the time a run keeps a connection busy.
	retentionShare = 4
)

// keepRetention applies the policies to all repositories, again and again, until
// ctx ends. On a shared database the process that has the lease does so; it keeps
// it from one run to the next, so that there is one run in each interval whatever
// the number of processes.
func (c *Catalog) keepRetention(ctx context.Context) {
	every := c.policies.Load().retentionEvery
	lease := c.db.Lease("retention")
	clock := jumps{lease: retentionHold}
	wait := retentionFirst
	if every > 0 {
		wait = min(wait, every)
	}
	for {
		woken, alive := c.sleepOr(ctx, wait, c.retentionWake)
		if !alive {
			return
		}
		every = c.policies.Load().retentionEvery
		if woken { // other policies hold: they are applied soon
			if wait = retentionFirst; every > 0 {
				wait = min(wait, every)
			}
			continue
		}
		if !c.deletesTags() {
			wait = math.MaxInt64 // until the policies change
			continue
		}
		if wait = clock.hold(c.opt.Now()); wait > 0 {
			c.log.Warn("retention policies wait: the clock was set forward", "until", c.opt.Now().Add(wait))
			continue
		}
		if !c.policy("").open(c.opt.Now()) {
			wait = retentionLook
			continue
		}
		taken, err := lease.Take(ctx, max(every, time.Hour))
		switch {
		case err == nil && taken:
			err = c.retainAll(ctx)
			wait = every
		default:
			wait = min(retentionLook, every)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("applying retention policies", "error", err)
			wait = min(retentionLook, every)
		}
		if every == 0 {
			wait = math.MaxInt64 // once, unless the policies change
		}
	}
}

// sleepOr waits for d, or until something comes on wake; it reports which, and whether
// ctx lives.
func (c *Catalog) sleepOr(ctx context.Context, d time.Duration, wake <-chan struct{}) (woken, alive bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false, true
	case <-wake:
		return true, true
	case <-ctx.Done():
		return false, false
	}
}

// retention returns the policies that are for a repository.
func (c *Catalog) retention(repo registry.Name) *retention.Policies {
	now := c.policies.Load()
	if p := now.poolRetention[c.poolOf(repo)]; p != nil {
		return p
	}
	return now.retention
}

// deletesTags reports whether some policy may delete tags.
func (c *Catalog) deletesTags() bool {
	now := c.policies.Load()
	for _, p := range now.poolRetention {
		if p.DeleteTags() {
			return true
		}
	}
	return now.retention.DeleteTags()
}

// sleep reports whether ctx lived for d.
func (c *Catalog) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// retainAll applies the policies to every repository once, with pauses.
func (c *Catalog) retainAll(ctx context.Context) error {
	type repo struct {
		name registry.Name
		id   int64
	}
	total, planned := registry.RetentionReport{}, registry.RetentionReport{DryRun: true}
	for last := ""; ; {
		var repos []repo
		_, err := c.page(ctx, sqlRetentionRepos, []any{last, factsPage}, func(rows *sqldb.Rows) error {
			var r repo
			err := rows.Scan(&r.name, &r.id)
			repos = append(repos, r)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range repos {
			last = string(r.name)
			// A dry run turns collection off, and tells all the same.
			off := c.policy(c.poolOf(r.name)).Off && !c.retention(r.name).DryRun
			if off || c.readOnly(r.name) != nil {
				continue
			}
			began := time.Now()
			report, err := c.retain(ctx, r.id, r.name)
			if err != nil {
				return err
			}
			if err := c.forgetPulls(ctx, r.id); err != nil {
				return err
			}
			sum := &total
			if report.DryRun {
				sum = &planned
			}
			sum.Kept, sum.Deleted = sum.Kept+report.Kept, sum.Deleted+report.Deleted
			if !c.sleep(ctx, time.Since(began)*(retentionShare-1)) {
				return ctx.Err()
			}
		}
		if len(repos) < factsPage {
			break
		}
	}
	c.meters.retentionRuns.Inc()
	for _, sum := range []registry.RetentionReport{total, planned} {
		if sum.Kept+sum.Deleted > 0 || sum.DryRun == c.policies.Load().retention.DryRun {
			c.log.Info("retention policies applied", "module", "retention", "dry-run", sum.DryRun, "kept", sum.Kept, "deleted", sum.Deleted)
		}
	}
	return nil
}

// pullsKept is how long the statistics of a manifest that is gone stay: it may
// come back.
const pullsKept = 30 * 24 * time.Hour

func (c *Catalog) forgetPulls(ctx context.Context, id int64) error {
	before := c.opt.Now().Add(-pullsKept).UnixMicro()
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		return tx.Queue(sqlForgetPulls, id, before)
	})
}
