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

// Scrub says when stored bytes are compared with their digests.
type Scrub struct {
	// Interval is how old the last look at a copy may be. Of one that is older every
	// read is to be verified. 0 means 24 hours.
	Interval time.Duration
	// On makes everything be looked at in the background before the interval is
	// over. Without it only what a read found damaged is, and what StartScrub asks for.
	On bool
	// Rate is how many bytes a second are read for that at most. 0: no limit.
	Rate int64
	// AlwaysVerify lets every read be verified, however young the last look is.
	AlwaysVerify bool
	// Healer gets damaged content from elsewhere. nil: nobody does.
	Healer registry.Healer
}

const defaultScrubInterval = 24 * time.Hour

// Scrubbing has to end before the interval does, or reads would be verified for
// nothing: what is older than this part of it is due.
const (
	scrubShareOf  = 4
	scrubShareDue = 3
)

// On a shared database one process at a time scrubs.
const (
	scrubTerm  = time.Minute
	scrubLook  = 10 * time.Second // how often others look for requests
	scrubRetry = time.Minute      // after a failure
)

const (
	sqlScrubRow  = `SELECT requested, began, at_repo, at_digest, blobs, bytes, manifests FROM scrub WHERE one = 1`
	sqlAddScrub  = `INSERT INTO scrub (one, requested, began, at_repo, at_digest, blobs, bytes, manifests) VALUES (1, 0, 0, 0, $1, 0, 0, 0) ON CONFLICT (one) DO NOTHING`
	sqlAskScrub  = `UPDATE scrub SET requested = $1 WHERE one = 1 AND requested < $1`
	sqlOldest    = `SELECT verified_at FROM blobs WHERE verified_at >= -1 ORDER BY verified_at LIMIT 1`
	sqlAllDamage = `
		SELECT (SELECT COUNT(*) FROM blobs WHERE damaged IS NOT NULL AND pool >= '') + (SELECT COUNT(*) FROM manifests WHERE damaged IS NOT NULL AND repo_id >= 0)`
)

// scrubState is the row of table scrub.
type scrubState struct {
	requested, began, atRepo int64
	atDigest                 []byte
	blobs, bytes, manifests  int64
}

// ended reports whether the last look at all manifests came to its end.
func (s scrubState) ended() bool { return s.atRepo == 0 && len(s.atDigest) == 0 }

func (c *Catalog) readScrub(ctx context.Context) (s scrubState, err error) {
	err = c.db.QueryRow(ctx, sqlScrubRow).Scan(&s.requested, &s.began, &s.atRepo, &s.atDigest, &s.blobs, &s.bytes, &s.manifests)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s, fmt.Errorf("reading how far scrubbing is: %w", err)
	}
	return s, nil
}

func (c *Catalog) scrubInterval() time.Duration {
	if c.policies.Load().scrub.Interval > 0 {
		return c.policies.Load().scrub.Interval
	}
	return defaultScrubInterval
}

// verifiedUntil returns until when a copy that was last looked at then counts as
// verified.
func (c *Catalog) verifiedUntil(at int64) int64 {
	if c.policies.Load().scrub.AlwaysVerify || at <= 0 {
		return 0
	}
	return at + c.scrubInterval().Microseconds()
}

// scrubBefore returns before when something must have been looked at to be due.
func (c *Catalog) scrubBefore(s scrubState) int64 {
	before := s.requested
	if c.policies.Load().scrub.On {
		before = max(before, c.opt.Now().Add(-c.scrubInterval()/scrubShareOf*scrubShareDue).UnixMicro())
	}
	return before
}

func (c *Catalog) wakeScrub() {
	select {
	case c.scrubWake <- struct{}{}:
	default:
	}
}

// scrubbing looks at what is due until ctx ends.
func (c *Catalog) scrubbing(ctx context.Context) {
	defer close(c.scrubbed)
	if c.reaper == nil {
		return
	}
	for {
		wait, err := c.scrubDue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("scrubbing stops for a while", "error", err)
			wait = scrubRetry
		}
		if c.db.Dialect().Shared != nil {
			wait = min(wait, scrubLook) // for what others are asked for
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.scrubWake:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// scrubDue looks at all that is due, if no other process does, and returns when
// to look again unless woken.
func (c *Catalog) scrubDue(ctx context.Context) (time.Duration, error) {
	wait, due, err := c.scrubWait(ctx)
	if err != nil || !due {
		return wait, err
	}
	lease := c.db.Lease("scrub")
	taken, err := lease.Take(ctx, scrubTerm)
	if err != nil || !taken {
		return scrubRetry, err
	}
	held, stop := c.holdLease(ctx, lease)
	defer stop()
	s := &scrubRun{c: c, ctx: held}
	err = errors.Join(s.blobs(), s.flush())
	if err == nil {
		err = s.manifests()
	}
	if err != nil {
		return 0, err
	}
	c.log.Info("scrubbed what was due", "blobs", s.sum.blobs, "bytes", s.sum.bytes, "manifests", s.sum.manifests, "damaged", s.sum.damaged, "failed", s.sum.failed)
	if s.sum.failed > 0 {
		return scrubRetry, nil
	}
	wait, _, err = c.scrubWait(ctx)
	return wait, err
}

// holdLease keeps the lease while the context that it returns lives, which ends
// when the lease is lost.
func (c *Catalog) holdLease(ctx context.Context, lease *sqldb.Lease) (held context.Context, stop func()) {
	held, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(scrubTerm / 4)
		defer tick.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-tick.C:
			}
			if taken, err := lease.Take(held, scrubTerm); err != nil || !taken {
				cancel()
			}
		}
	}()
	return held, func() {
		cancel()
		<-done
		if err := lease.Give(context.WithoutCancel(ctx)); err != nil {
			c.log.Warn("giving back a lease", "error", err)
		}
	}
}

// scrubWait returns whether something is due, and if not when it will be.
func (c *Catalog) scrubWait(ctx context.Context) (time.Duration, bool, error) {
	s, err := c.readScrub(ctx)
	if err != nil {
		return 0, false, err
	}
	oldest, found, err := c.oldestLook(ctx)
	if err != nil {
		return 0, false, err
	}
	before := c.scrubBefore(s)
	if found && (oldest < 0 || oldest < before) || s.began < before || !s.ended() {
		return 0, true, nil
	}
	if !c.policies.Load().scrub.On {
		return lastRetry, false, nil
	}
	next := s.began
	if found {
		next = min(next, oldest)
	}
	return min(max(time.Duration(next-before)*time.Microsecond, time.Second), lastRetry), false, nil
}

// oldestLook returns since when all blobs have been looked at.
func (c *Catalog) oldestLook(ctx context.Context) (at int64, found bool, err error) {
	err = c.db.QueryRow(ctx, sqlOldest).Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading what was not scrubbed for longest: %w", err)
	}
	return at, true, nil
}
