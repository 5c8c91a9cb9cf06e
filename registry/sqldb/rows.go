package sqldb

import (
	"context"
	"database/sql"
	"errors"
)

// Row is the answer of a query for one row.
type Row struct {
	row     *sql.Row
	err     error
	scan    func(dest ...any) error // if set, runs the query
	dialect *Dialect                // nil in a transaction, whose end translates
	done    context.CancelFunc      // nil if nothing has to be let go
	timing  timing                  // zero in a transaction
}

// Scan copies the row's columns into dest, or returns [sql.ErrNoRows]. It must
// be called.
func (r Row) Scan(dest ...any) error {
	if r.done != nil {
		defer r.done()
	}
	err := r.err
	switch {
	case err != nil:
	case r.scan != nil:
		err = r.scan(dest...)
	default:
		err = r.row.Scan(dest...)
	}
	if r.timing.meters != nil {
		r.timing.end(err)
	}
	if r.dialect == nil || errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return r.dialect.translate(err)
}

// Rows is the answer of a query.
type Rows struct {
	*sql.Rows
	dialect *Dialect           // nil in a transaction, whose end translates
	done    context.CancelFunc // nil if nothing has to be let go
}

// Err returns the error that ended the rows early, if any.
func (r *Rows) Err() error {
	err := r.Rows.Err()
	if r.dialect != nil {
		return r.dialect.translate(err)
	}
	return err
}

// Close lets go of the connection. It may be called more than once.
func (r *Rows) Close() error {
	err := r.Rows.Close()
	if r.done != nil {
		r.done()
	}
	return err
}
