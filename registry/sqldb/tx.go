package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// Tx is what an operation sees of its transaction. It is valid until the
// operation's function returns.
type Tx struct {
	ctx      context.Context
	s        session
	rows     []*sql.Rows
	brackets []bracket
}

// session runs statements in the current transaction.
type session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

type bracket struct{ begin, end func() }

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	r, err := tx.s.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// QueryRow runs a query that returns at most one row. Scan must be called.
func (tx *Tx) QueryRow(query string, args ...any) *sql.Row {
	return tx.s.QueryRowContext(tx.ctx, query, args...)
}

// Query runs a query. Rows that the operation leaves open are closed after it.
func (tx *Tx) Query(query string, args ...any) (*sql.Rows, error) {
	rows, err := tx.s.QueryContext(tx.ctx, query, args...)
	if err == nil {
		tx.rows = append(tx.rows, rows)
	}
	return rows, err
}

// Bracket has begin called just before the transaction is committed, and end
// after it was (or could not be), but before anyone is told. A cache that
// stops serving and filling what the operation changes between the two never
// shows a value that is older than one somebody has seen. Neither is called if
// the operation fails.
func (tx *Tx) Bracket(begin, end func()) {
	tx.brackets = append(tx.brackets, bracket{begin, end})
}

// PanicError is the error of an operation that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns what it panicked with, and where.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic in a database operation: %v\n%s", e.Value, e.Stack)
}

// apply runs fn on tx. A panic becomes an error, so that the operations that
// share the transaction live on.
func apply(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		for _, r := range tx.rows {
			r.Close()
		}
	}()
	return fn(tx)
}
