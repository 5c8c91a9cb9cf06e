package metadata

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlDue         = `SELECT pool, digest, locator, size, attempts FROM garbage WHERE due <= $1 ORDER BY due LIMIT $2`
	sqlNextDue     = `SELECT MIN(due) FROM garbage`
	sqlRemoved     = `DELETE FROM garbage WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlTombstone   = `UPDATE garbage SET due = $4, attempts = -1 WHERE pool = $1 AND digest = $2 AND locator = $3`
	sqlRemoveLater = `UPDATE garbage SET due = $4, attempts = attempts + 1 WHERE pool = $1 AND digest = $2 AND locator = $3`
)

// garbageBatch is how many copies are removed between two transactions.
const garbageBatch = 100

// On a shared database one process at a time removes copies, for a term that it
// takes anew for each batch. A removal that has begun has half of it to end.
const (
	garbageTerm  = 40 * time.Second
	garbageShare = 5 * time.Second // how often others look
)

// A copy that was removed stays in the queue for a while, with -1 attempts: who was
// told by the blobstore that it is there, a moment before it went, must not be able
// to link it a moment later. No request takes that long between the two.
const (
	tombstone     = -1
	tombstoneTime = 10 * time.Minute
)

// A copy that can't be removed is tried again after a second, then twice as
// long each time, up to an hour.
const (
	firstRetry = time.Second
	lastRetry  = time.Hour
)

func (c *Catalog) wakeGarbage() {
	select {
	case c.garbage <- struct{}{}:
	default:
	}
}

// collectGarbage removes queued copies until ctx ends.
func (c *Catalog) collectGarbage(ctx context.Context) {
	defer close(c.stopped)
	if c.reaper == nil {
		return
	}
	for {
		wait, err := c.removeDue(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("removing copies of blobs nobody uses", "error", err)
			wait = lastRetry
		}
		if c.db.Dialect().Shared != nil {
			wait = min(wait, garbageShare) // for what others have queued
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.garbage:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// removeDue removes the copies that are due, and returns when to look again
// unless woken.
func (c *Catalog) removeDue(ctx context.Context) (_ time.Duration, err error) {
	lease := c.db.Lease("garbage")
	taken := false
	defer func() {
		if taken {
			err = errors.Join(err, lease.Give(context.WithoutCancel(ctx)))
		}
	}()
	for {
		begin := time.Now()
		if due, err := c.dueCopies(ctx); err != nil {
			return 0, err
		} else if len(due) == 0 {
			return c.untilDue(ctx)
		}
		if taken, err = lease.Take(ctx, garbageTerm); err != nil {
			return 0, err
		}
		if !taken {
			return lastRetry, nil
		}
		if err := c.removeBatch(ctx, begin.Add(garbageTerm/2)); err != nil {
			return 0, err
		}
	}
}

// removeBatch removes copies that are due. None of it lasts longer than until.
func (c *Catalog) removeBatch(ctx context.Context, until time.Time) error {
	due, err := c.dueCopies(ctx) // others may have removed some meanwhile
	if err != nil {
		return err
	}
	bounded, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	// Only the owner of the lease makes a copy that is in the queue live again, so
	// no transaction has to be open while its bytes go.
	for i := range due {
		if due[i].attempts == tombstone {
			continue
		}
		due[i].err = c.removeOne(bounded, due[i])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if due[i].err != nil {
			c.log.Warn("removing a copy of a blob nobody uses", "digest", due[i].Digest, "pool", due[i].Pool, "error", due[i].err)
		}
	}
	if err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error { return c.settle(tx, due) }); err != nil {
		return fmt.Errorf("recording removed copies: %w", err)
	}
	return nil
}

func (c *Catalog) removeOne(ctx context.Context, d discarded) error {
	if rescued, err := c.rescue(ctx, d); rescued || err != nil {
		return err
	}
	if err := c.reaper.Remove(ctx, d.Stored); err != nil {
		return err
	}
	c.meters.removed.Inc()
	c.meters.removedBytes.Add(d.Size)
	return nil
}

// discarded is a copy in the queue.
type discarded struct {
	registry.Stored
	packed   []byte // the digest
	attempts int
	err      error // of the removal
}

func (c *Catalog) dueCopies(ctx context.Context) ([]discarded, error) {
	rows, err := c.db.Query(ctx, sqlDue, c.now(), garbageBatch)
	if err != nil {
		return nil, fmt.Errorf("reading the garbage queue: %w", err)
	}
	defer rows.Close()
	var all []discarded
	for rows.Next() {
		var d discarded
		if err := rows.Scan(&d.Pool, &d.packed, &d.Locator, &d.Size, &d.attempts); err != nil {
			return nil, fmt.Errorf("reading the garbage queue: %w", err)
		}
		if d.Digest, err = unpack(d.packed); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, rows.Err()
}

func (c *Catalog) untilDue(ctx context.Context) (time.Duration, error) {
	var next *int64
	if err := c.db.QueryRow(ctx, sqlNextDue).Scan(&next); err != nil {
		return 0, fmt.Errorf("reading the garbage queue: %w", err)
	}
	if next == nil {
		return lastRetry, nil
	}
	return max(time.Duration(*next-c.now())*time.Microsecond, 0), nil
}

// settle takes the copies that are removed from the queue.
func (c *Catalog) settle(tx *sqldb.Tx, all []discarded) error {
	if err := tx.Lock(); err != nil { // the lease is lock enough
		return err
	}
	var failed error
	for _, d := range all {
		var err error
		_, foreign := d.Locator.Layout() // which may be taken over again at once
		switch {
		case d.err == nil && (d.attempts == tombstone || foreign):
			err = tx.Queue(sqlRemoved, string(d.Pool), d.packed, string(d.Locator))
		case d.err == nil:
			err = tx.Queue(sqlTombstone, string(d.Pool), d.packed, string(d.Locator), c.opt.Now().Add(tombstoneTime).UnixMicro())
		default:
			retry := min(firstRetry<<min(d.attempts, 20), lastRetry)
			err = tx.Queue(sqlRemoveLater, string(d.Pool), d.packed, string(d.Locator), c.opt.Now().Add(retry).UnixMicro())
		}
		failed = errors.Join(failed, err)
	}
	return failed
}
