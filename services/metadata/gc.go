package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
)

// Garbage collection: how content that nothing needs goes. The protocol, and why
// it loses nothing, is in docs/adr/0023-garbage-collection.md.
//
// Whatever loses its last reference is queued for review by the transaction that
// takes it away. The collector reads reviews that are due, looks again, and
// decides, in one transaction that has the locks of all that could need the
// content. So what is decided is true; a clock that jumps can make it early, but
// never wrong.

// On a shared database one process at a time collects, as with the garbage queue.
const (
	collectTerm  = 60 * time.Second
	collectShare = 10 * time.Second // how often others look
)

// reviewBatch is how many reviews one transaction decides at most.
const reviewBatch = 64

// A database with one writer lets pushes wait while a batch is decided. How many
// reviews a batch has there depends on how long the one before it took.
const (
	smallBatch = 8
	calmBatch  = 10 * time.Millisecond // what a batch should take
)

// nextBatch returns how many reviews the batch behind one of n should have.
func nextBatch(n int, took time.Duration) int {
	switch {
	case took > 2*calmBatch:
		return max(n/2, smallBatch)
	case took < calmBatch/2:
		return min(2*n, reviewBatch)
	}
	return n
}

// Collected is what a collection did.
type Collected struct {
	Reviews, Manifests, Links, Blobs, Repositories int64
	Bytes                                          int64 // of the blobs
}

func (d *Collected) add(o Collected) {
	d.Reviews += o.Reviews
	d.Manifests += o.Manifests
	d.Links += o.Links
	d.Blobs += o.Blobs
	d.Repositories += o.Repositories
	d.Bytes += o.Bytes
}

// collectReviews collects until ctx ends.
func (c *Catalog) collectReviews(ctx context.Context) {
	defer close(c.collected)
	if c.reaper == nil {
		return
	}
	for {
		wait, err := c.collectDue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("collecting what nothing needs", "error", err)
			c.meters.failed.Inc()
			wait = time.Minute
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// collectDue collects what is due, at an easy pace, and returns when to look again.
func (c *Catalog) collectDue(ctx context.Context) (wait time.Duration, err error) {
	if hold := c.clock.hold(c.opt.Now()); hold > 0 {
		return min(hold, collectShare), nil
	}
	lease := c.db.Lease("collector")
	taken, err := lease.Take(ctx, collectTerm)
	if err != nil || !taken {
		return collectShare, err
	}
	defer func() { err = errors.Join(err, lease.Give(context.WithoutCancel(ctx))) }()
	until := time.Now().Add(collectTerm / 2)
	batch := reviewBatch
	if c.db.Dialect().Shared == nil {
		batch = smallBatch
	}
	for time.Now().Before(until) {
		begin := time.Now()
		done, err := c.collectSome(ctx, false, batch)
		if err != nil {
			return 0, err
		}
		if c.db.Dialect().Shared == nil {
			batch = nextBatch(batch, time.Since(begin))
		}
		if done.Reviews == 0 {
			if err := c.sweepDue(ctx); err != nil {
				return 0, err
			}
			return c.untilReview(ctx)
		}
		// The other half of the time is for those who wait for something.
		if err := rest(ctx, time.Since(begin)); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// collectNow collects what is due until nothing is, or time is over.
func (c *Catalog) collectNow(ctx context.Context, until time.Time) (sum Collected, err error) {
	lease := c.db.Lease("collector")
	for {
		taken, err := lease.Take(ctx, collectTerm)
		if err != nil {
			return sum, err
		}
		if taken {
			break
		}
		if time.Now().After(until) {
			return sum, registry.ErrUnavailable.With("another process is collecting")
		}
		if err := rest(ctx, 100*time.Millisecond); err != nil {
			return sum, err
		}
	}
	defer func() { err = errors.Join(err, lease.Give(context.WithoutCancel(ctx))) }()
	for {
		done, err := c.collectSome(ctx, true, reviewBatch)
		sum.add(done)
		if err != nil || done.Reviews == 0 || time.Now().After(until) {
			return sum, err
		}
	}
}

// rest waits.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collectSome decides on a batch of reviews of each pool. asked says that somebody
// wants it now, whatever the time of day; batch is how many reviews a batch has.
func (c *Catalog) collectSome(ctx context.Context, asked bool, batch int) (Collected, error) {
	var sum Collected
	for _, p := range c.pools() {
		if !c.collects(p) || !asked && !c.policy(p).open(c.opt.Now()) {
			continue
		}
		due, err := c.dueReviews(ctx, p, batch)
		if err != nil {
			return sum, err
		}
		if len(due) > 0 {
			done, err := c.decide(ctx, due)
			sum.add(done)
			if err != nil {
				return sum, fmt.Errorf("deciding what may go: %w", err)
			}
		}
	}
	n, err := c.emptyTrash(ctx)
	sum.Reviews += n
	c.meters.collected(sum)
	return sum, err
}

const (
	sqlDueReviews = `SELECT repo_id, digest, kind, epoch FROM reviews WHERE pool = $1 AND due <= $2 ORDER BY due LIMIT $3`
	sqlNextReview = `SELECT MIN(due) FROM reviews WHERE pool = $1`
)

// due is a review that is due.
type due struct {
	repoID int64
	packed []byte
	kind   int
	pool   registry.Pool
	epoch  int64

	repo     registry.Name // found by repoID
	retained bool          // retention policies keep the manifest
}

func (c *Catalog) dueReviews(ctx context.Context, p registry.Pool, batch int) ([]due, error) {
	rows, err := c.db.Query(ctx, sqlDueReviews, string(p), c.now(), batch)
	if err != nil {
		return nil, fmt.Errorf("reading due reviews: %w", err)
	}
	defer rows.Close()
	var all []due
	for rows.Next() {
		d := due{pool: p}
		if err := rows.Scan(&d.repoID, &d.packed, &d.kind, &d.epoch); err != nil {
			return nil, fmt.Errorf("reading due reviews: %w", err)
		}
		d.packed = notNull(d.packed)
		all = append(all, d)
	}
	return all, rows.Err()
}

// untilReview returns when to look again. What is queued meanwhile is not due
// much earlier.
func (c *Catalog) untilReview(ctx context.Context) (time.Duration, error) {
	wait := time.Minute
	for _, p := range c.pools() {
		if !c.collects(p) || !c.policy(p).open(c.opt.Now()) {
			continue
		}
		var next *int64
		if err := c.db.QueryRow(ctx, sqlNextReview, string(p)).Scan(&next); err != nil {
			return 0, fmt.Errorf("looking for the next review: %w", err)
		}
		if next != nil {
			wait = min(wait, time.Duration(*next-c.now())*time.Microsecond)
		}
	}
	return max(wait, 100*time.Millisecond), nil
}
