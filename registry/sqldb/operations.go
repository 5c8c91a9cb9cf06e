package sqldb

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Every operation on a shared database leaves a row with a number of its own,
// in the transaction that it is. When the connection breaks before COMMIT is
// answered, the row tells whether it happened. Where there is none, whoever asks
// puts one there: if the operation is still on its way to the database, its own
// row is then refused, and it never happens; if it is just being committed, the
// question waits for that.
const (
	sqlRecord   = `INSERT INTO operations (id, done) VALUES ($1, TRUE)`
	sqlFence    = `INSERT INTO operations (id, done) VALUES ($1, FALSE) ON CONFLICT (id) DO NOTHING`
	sqlOutcome  = `SELECT done FROM operations WHERE id = $1`
	sqlSweepOld = `DELETE FROM operations WHERE id < $1`
)

// operationsTable is made with the table of schema versions.
const operationsTable = `CREATE TABLE IF NOT EXISTS operations (id BYTEA NOT NULL PRIMARY KEY, done BOOLEAN NOT NULL)`

// Rows of operations are needed until somebody could still ask, and a late
// COMMIT could still come.
const (
	keepOperations = time.Hour
	sweepEvery     = 10 * time.Minute
)

// operationID begins with the time, in microseconds, so that old rows are at
// the beginning of the index.
type operationID [16]byte

func newOperation() operationID {
	id := operationsBefore(time.Now())
	rand.Read(id[8:]) // never fails, see crypto/rand
	return id
}

// operationsBefore is larger than all operations from before t, and no other.
func operationsBefore(t time.Time) (id operationID) {
	binary.BigEndian.PutUint64(id[:], uint64(t.UnixMicro()))
	return id
}

func (id operationID) record() Statement { return Statement{Text: sqlRecord, Args: []any{id[:]}} }

// errUnknown says that an operation may have happened or not.
var errUnknown = fmt.Errorf("%w: a connection broke during a commit, and whether that happened could not be found out in time", ErrUnavailable)

// errNotCommitted says that an operation did not happen and never will.
var errNotCommitted = fmt.Errorf("%w: a connection broke before a commit", ErrUnavailable)

// resolve finds out whether an operation happened whose COMMIT got no answer,
// because of cause. It returns nil if it did, and errNotCommitted if it did not
// and never will.
func (d *direct) resolve(ctx context.Context, op operationID, cause error) error {
	d.refresh()
	for n := 1; ; n++ {
		done, err := d.outcome(ctx, op)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			return fmt.Errorf("%w: %w", errNotCommitted, cause)
		case d.closed.Load():
			return errors.Join(fmt.Errorf("%w: %w", errUnknown, cause), err)
		}
		if pause(ctx, min(time.Millisecond<<n, time.Second/4)) != nil {
			return errors.Join(fmt.Errorf("%w: %w", errUnknown, cause), err)
		}
	}
}

// outcome reports whether an operation has happened. If not, it never will.
func (d *direct) outcome(ctx context.Context, op operationID) (done bool, err error) {
	if _, err := d.db.ExecContext(ctx, sqlFence, op[:]); err != nil {
		return false, err
	}
	err = d.db.QueryRowContext(ctx, sqlOutcome, op[:]).Scan(&done)
	return done, err
}

// sweepOld removes the rows of old operations in the background, now and then.
func (d *direct) sweepOld() {
	now := time.Now()
	last := d.swept.Load()
	if now.UnixMicro()-last < sweepEvery.Microseconds() || !d.swept.CompareAndSwap(last, now.UnixMicro()) {
		return
	}
	d.sweep.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endTime)
		defer cancel()
		old := operationsBefore(now.Add(-keepOperations))
		_, _ = d.db.ExecContext(ctx, sqlSweepOld, old[:]) // what stays goes with the next
	})
}
