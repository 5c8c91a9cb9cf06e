package metadata

import (
	"context"
	"fmt"
	"slices"

	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlBlobState = `
		SELECT b.state, b.epoch, v.epoch, b.lease_until, b.size, b.inline IS NOT NULL,
			(SELECT 1 FROM links l WHERE l.digest = b.digest AND l.pool = b.pool LIMIT 1) IS NOT NULL
		FROM blobs b JOIN reviews v ON v.repo_id = 0 AND v.digest = b.digest AND v.kind = 3 AND v.pool = b.pool AND v.due <= $3
		WHERE b.pool = $1 AND b.digest = $2`
	sqlCondemn   = `UPDATE blobs SET state = 1, epoch = epoch + 1 WHERE pool = $1 AND digest = $2`
	sqlLookAgain = `UPDATE reviews SET due = $3, epoch = $4 WHERE repo_id = 0 AND digest = $2 AND kind = 3 AND pool = $1`

	// The last look: a copy that somebody has linked since it was condemned has
	// another epoch. A file of somebody else's layout is not removed, and may be
	// taken over again at once.
	sqlGiveUp = `
		INSERT INTO garbage (pool, digest, locator, size, due, attempts)
		SELECT pool, digest, locator, size, $4, 0 FROM blobs b
		WHERE pool = $1 AND digest = $2 AND state = 1 AND epoch = $3 AND inline IS NULL
			AND locator NOT LIKE 'layout:%'
			AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = b.digest AND l.pool = b.pool)
		ON CONFLICT (pool, digest, locator) DO NOTHING`
	sqlForgetBlob = `
		DELETE FROM blobs WHERE pool = $1 AND digest = $2 AND state = 1 AND epoch = $3
			AND NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = blobs.digest AND l.pool = blobs.pool)`
)

// blobState is a blob that has a review.
type blobState struct {
	state        int
	epoch, lease int64
	reviewed     int64 // epoch in the review
	size         int64
	inline       bool
	linked       bool
	there        bool // the others are set
}

// decideBlobs decides on copies. One without links is condemned; a fence later it
// is given up, if nobody has linked it meanwhile: its row goes, and the copy is in
// the queue of those to remove, where no link finds it.
func (c *Catalog) decideBlobs(ctx context.Context, all []due, sum *Collected) error {
	slices.SortFunc(all, func(a, b due) int { return slices.Compare(a.packed, b.packed) })
	locks := make([]sqldb.Lock, len(all))
	for i, d := range all {
		digest, err := unpack(d.packed)
		if err != nil {
			return err
		}
		locks[i] = decidesCopy(d.pool, digest)
	}
	var done Collected
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		done = Collected{}
		if err := tx.Lock(locks...); err != nil {
			return err
		}
		now := c.now()
		states, err := blobStates(tx, all, now)
		if err != nil {
			return err
		}
		return tx.Group(func() error {
			for i, d := range all {
				if err := c.decideBlob(tx, d, states[i], now, &done); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	sum.add(done)
	if done.Blobs > 0 {
		c.wakeGarbage()
	}
	return nil
}

func blobStates(tx *sqldb.Tx, all []due, now int64) ([]blobState, error) {
	states := make([]blobState, len(all))
	look := make([]sqldb.Statement, len(all))
	for i, d := range all {
		s := &states[i]
		look[i] = sqldb.Statement{Text: sqlBlobState, Args: []any{string(d.pool), d.packed, now}, Row: func(scan func(dest ...any) error) error {
			s.there = true
			return scan(&s.state, &s.epoch, &s.reviewed, &s.lease, &s.size, &s.inline, &s.linked)
		}}
	}
	if err := tx.Run(look...); err != nil {
		return nil, fmt.Errorf("looking who needs a blob: %w", err)
	}
	return states, nil
}

// States of a blob's row. One whose copy is being removed has no row.
const (
	blobLive      = 0
	blobCondemned = 1
)

func (c *Catalog) decideBlob(tx *sqldb.Tx, d due, s blobState, now int64, done *Collected) error {
	pool := string(d.pool)
	over := func() error { return tx.Queue(sqlReviewOver, int64(0), d.packed, reviewBlob, pool, now) }
	switch {
	case !s.there:
		return over()
	case s.reviewed != d.epoch: // another collector has decided meanwhile
		return nil
	case s.linked:
		if s.state != blobLive {
			if err := tx.Queue(sqlRevive, pool, d.packed); err != nil {
				return err
			}
		}
		return over()
	case s.lease > now && s.lease <= c.promiseAt(d.pool, now): // a later one is of a clock that was wrong
		return tx.Queue(sqlLookAgain, pool, d.packed, s.lease, int64(0))
	case s.state != blobCondemned || s.epoch != d.epoch:
		if err := tx.Queue(sqlCondemn, pool, d.packed); err != nil {
			return err
		}
		return tx.Queue(sqlLookAgain, pool, d.packed, now+c.fence().Microseconds(), s.epoch+1)
	}
	if err := tx.Queue(sqlGiveUp, pool, d.packed, d.epoch, now); err != nil {
		return err
	}
	if err := tx.Queue(sqlForgetBlob, pool, d.packed, d.epoch); err != nil {
		return err
	}
	done.Blobs++
	if !s.inline {
		done.Bytes += s.size
	}
	return over()
}
