package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"time"
)

// The end of a transaction can't be interrupted by its caller, so it has a bound
// of its own.
const (
	endTime      = 20 * time.Second
	rollbackTime = 2 * time.Second
)

// directTx is a transaction of its own. What it queues is sent with what comes
// next, so that an operation costs few round trips.
type directTx struct {
	conn    *sql.Conn
	d       *direct
	pending []Statement
	begun   bool // BEGIN is sent or pending
	sent    bool // something was sent
	wrote   bool // there is something to commit
}

var errLateLock = errors.New("an operation's locks come before its statements")

func (t *directTx) lock(all []Lock, patient bool) error {
	if t.begun {
		return errLateLock
	}
	t.begun = true
	sh := t.d.dialect.Shared
	t.pending = append(t.pending, Statement{Text: sh.Begin}, sh.Lock(all, patient))
	return nil
}

// begin makes an operation that took no locks run alone.
func (t *directTx) begin() error {
	if t.begun {
		return nil
	}
	return t.lock([]Lock{{Name: everything}}, false)
}

func (t *directTx) queue(all ...Statement) {
	for _, s := range all {
		t.note(s.Text)
	}
	t.pending = append(t.pending, all...)
}

func (t *directTx) send(ctx context.Context, all []Statement) error {
	for _, s := range all {
		t.note(s.Text)
	}
	return t.flush(ctx, all)
}

// note remembers that there is something to commit.
func (t *directTx) note(text string) {
	if !strings.HasPrefix(strings.TrimSpace(text), "SELECT") {
		t.wrote = true
	}
}

// flush sends what is pending, and then all.
func (t *directTx) flush(ctx context.Context, all []Statement) error {
	queued := t.pending
	t.pending = nil
	if !t.begun { // an operation that queued something first
		if err := t.begin(); err != nil {
			return err
		}
		queued = append(t.pending, queued...)
		t.pending = nil
	}
	all = append(queued, all...)
	if len(all) == 0 {
		return nil
	}
	t.sent = true
	return t.d.dialect.Shared.Send(ctx, t.conn, all)
}

// ExecContext sends what is pending, and runs a statement.
func (t *directTx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	t.note(query)
	var changed driver.RowsAffected
	err := t.flush(ctx, []Statement{{Text: query, Args: args, Changed: func(rows int64) { changed = driver.RowsAffected(rows) }}})
	return changed, err
}

// QueryContext sends what is pending, and runs a query.
func (t *directTx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	t.note(query)
	if err := t.flush(ctx, nil); err != nil {
		return nil, err
	}
	return t.conn.QueryContext(ctx, query, args...)
}

// QueryRowContext returns a query for one row, which is sent with what is pending
// when the row is scanned.
func (t *directTx) QueryRowContext(ctx context.Context, query string, args ...any) Row {
	t.note(query)
	return Row{scan: func(dest ...any) error {
		found := false
		err := t.flush(ctx, []Statement{{Text: query, Args: args, Row: func(scan func(dest ...any) error) error {
			if found {
				return nil // as database/sql: the first row is the answer
			}
			found = true
			return scan(dest...)
		}}})
		if err == nil && !found {
			err = sql.ErrNoRows
		}
		return err
	}}
}

// rollback undoes the transaction. A connection on which that fails is closed.
func (t *directTx) rollback(ctx context.Context) {
	if !t.sent {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
	defer cancel()
	if _, err := t.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
		t.discard()
	}
}

// discard closes the connection instead of giving it back to the pool.
func (t *directTx) discard() {
	_ = t.conn.Raw(func(any) error { return driver.ErrBadConn }) // which is what it returns
}

// commit ends the transaction. What has begun to be committed can't be called
// off any more, so ctx does not.
func (t *directTx) commit(ctx context.Context) error {
	if !t.begun && len(t.pending) == 0 {
		return nil // nothing was asked for
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if !t.wrote {
		err := t.flush(ctx, []Statement{{Text: "COMMIT"}})
		if err != nil {
			t.rollback(ctx)
		}
		return err
	}
	op := newOperation()
	err := t.flush(ctx, []Statement{op.record(), {Text: "COMMIT"}})
	switch {
	case err == nil:
		return nil
	case t.d.dialect.Shared.Refused(err):
		t.rollback(ctx)
		return err
	}
	t.discard()
	return t.d.resolve(ctx, op, err)
}
