package metadata

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Finishing while the registry serves: somebody asks for it, which is a row; one of
// the processes does it, and notes how far it is.

const (
	sqlFinishing = `
		SELECT requested, ended, blobs, bytes, repositories, kept, removed, problem_count, problems, failure FROM finishing WHERE one = 1`
	sqlAskFinish = `
		INSERT INTO finishing (one, requested, actor, ended, blobs, bytes, repositories, kept, removed, problem_count, problems, failure)
		VALUES (1, $1, $2, 0, 0, 0, 0, 0, 0, 0, '[]', '')
		ON CONFLICT (one) DO UPDATE SET requested = excluded.requested, actor = excluded.actor, ended = 0, blobs = 0, bytes = 0,
			repositories = 0, kept = 0, removed = 0, problem_count = 0, problems = '[]', failure = ''
		WHERE finishing.ended > 0`
	sqlSaveFinish = `
		UPDATE finishing SET ended = $2, blobs = $3, bytes = $4, repositories = $5, kept = $6, removed = $7, problem_count = $8, problems = $9, failure = $10
		WHERE one = 1 AND requested = $1`
)

const (
	finishLook  = 10 * time.Second // how often others look for requests
	finishRetry = time.Minute      // after a failure
	finishTold  = time.Second      // how often progress is noted
)

// readFinish returns how far it is.
func (c *Catalog) readFinish(ctx context.Context) (f registry.TakeOverFinish, err error) {
	var list string
	err = c.db.QueryRow(ctx, sqlFinishing).Scan(&f.Requested, &f.Ended, &f.Blobs, &f.Bytes, &f.Repositories, &f.Kept, &f.Removed, &f.ProblemCount, &list, &f.Failure)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return f, nil
	case err != nil:
		return f, fmt.Errorf("reading how far a take-over's end is: %w", err)
	}
	return f, json.Unmarshal([]byte(list), &f.Problems)
}

// saveFinish notes how far it is.
func (c *Catalog) saveFinish(ctx context.Context, f registry.TakeOverFinish) error {
	if f.Problems == nil {
		f.Problems = []string{}
	}
	list, err := json.Marshal(f.Problems)
	if err != nil {
		return err
	}
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // one row, which is lock enough
			return err
		}
		return tx.Queue(sqlSaveFinish, f.Requested, f.Ended, f.Blobs, f.Bytes, f.Repositories, f.Kept, f.Removed, f.ProblemCount, string(list), f.Failure)
	})
}

// FinishTakeOvers implements [registry.TakeOvers].
func (c *Catalog) FinishTakeOvers(_ context.Context, a registry.Actor) error {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	return registry.ErrUnsupported.Because(errors.New("the catalog was opened without a blobstore"))
}

// FinishTakeOvers implements [registry.TakeOvers].
func (s *Service) FinishTakeOvers(ctx context.Context, a registry.Actor) error {
	if s.takeover == nil || s.takeover.owner == nil {
		return s.Catalog.FinishTakeOvers(ctx, a)
	}
	if err := s.access.allow(a, "", registry.ActAdmin); err != nil {
		return err
	}
	err := s.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // one row, which is lock enough
			return err
		}
		return tx.Queue(sqlAskFinish, s.now(), a.ID)
	})
	if err != nil {
		return fmt.Errorf("asking for a take-over's end: %w", err)
	}
	select {
	case s.takeover.asked <- struct{}{}:
	default:
	}
	return nil
}

// TakeOverFinish implements [registry.TakeOvers].
func (c *Catalog) TakeOverFinish(ctx context.Context, a registry.Actor) (registry.TakeOverFinish, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return registry.TakeOverFinish{}, err
	}
	f, err := c.readFinish(ctx)
	if err != nil || f.Requested > 0 && f.Ended == 0 {
		return f, err
	}
	err = c.eachForeign(ctx, func(b blobRow) error {
		f.ForeignBlobs++
		f.ForeignBytes += b.Size
		return nil
	})
	return f, err
}

// keepFinish does what is asked for until the catalog is closed.
func (t *takeover) keepFinish() {
	for {
		wait, err := t.finishDue()
		if t.ctx.Err() != nil {
			return
		}
		if err != nil {
			t.c.log.Error("making another registry's files our own: it is tried again", "error", err)
			wait = finishRetry
		}
		if t.c.db.Dialect().Shared != nil {
			wait = min(wait, finishLook)
		}
		timer := time.NewTimer(wait)
		select {
		case <-t.asked:
		case <-timer.C:
		case <-t.ctx.Done():
		}
		timer.Stop()
	}
}

// finishDue does it if it is asked for and no other process does. It returns when to
// look again unless woken.
func (t *takeover) finishDue() (time.Duration, error) {
	f, err := t.c.readFinish(t.ctx)
	if err != nil || f.Requested == 0 || f.Ended > 0 {
		return lastRetry, err
	}
	select {
	case <-t.ended: // what waits comes first
	case <-t.ctx.Done():
		return 0, t.ctx.Err()
	}
	lease := t.c.db.Lease("finish")
	taken, err := lease.Take(t.ctx, scrubTerm)
	if err != nil || !taken {
		return finishLook, err
	}
	held, stop := t.c.holdLease(t.ctx, lease)
	defer stop()
	if f, err = t.c.readFinish(held); err != nil || f.Requested == 0 || f.Ended > 0 { // another process was faster
		return lastRetry, err
	}
	return lastRetry, t.finish(held, f)
}

// finish makes all files our own. f is how far an earlier attempt came.
func (t *takeover) finish(ctx context.Context, f registry.TakeOverFinish) error {
	t.log.Info("making another registry's files our own", "since", time.UnixMicro(f.Requested))
	before := f
	f.Kept, f.Problems, f.ProblemCount, f.Failure = 0, nil, 0, ""
	var told time.Time
	sum := func(d Finished) {
		f.Blobs, f.Bytes, f.Removed = before.Blobs+d.Blobs, before.Bytes+d.Bytes, before.Removed+d.Removed
		f.Repositories, f.Kept = before.Repositories+int64(d.Repositories), int64(d.Kept)
	}
	done, err := t.c.Finish(ctx, t.owner, &Finish{
		Serving: true, Fence: t.fence,
		Found: func(x registry.Finding) {
			if f.ProblemCount++; len(f.Problems) < maxProblems {
				f.Problems = append(f.Problems, x.String())
			}
		},
		Progress: func(d Finished) {
			if time.Since(told) < finishTold {
				return
			}
			sum(d)
			if err := t.c.saveFinish(ctx, f); err != nil && ctx.Err() == nil {
				t.log.Warn("noting how far it is to make another registry's files our own", "error", err)
			}
			told = time.Now()
		},
	})
	sum(done)
	if err != nil {
		f.Failure = err.Error()
	} else {
		f.Ended = t.c.now()
		t.log.Info("another registry's files are our own", "blobs", f.Blobs, "bytes", f.Bytes, "directories", f.Repositories, "kept", f.Kept, "problems", f.ProblemCount)
	}
	if ctx.Err() != nil {
		return ctx.Err() // it goes on at the next start, or by who has the lease now
	}
	return errors.Join(err, t.c.saveFinish(t.ctx, f))
}
