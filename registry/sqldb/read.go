package sqldb

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Reads of a shared database are queries of their own. They change nothing, so
// they are tried again when the connection turns out to be broken.
const readAttempts = 4

// readTime bounds how long a query waits for a connection and for the first row
// of its answer.
const readTime = 20 * time.Second

// sharedRow runs a query for one row: no statement is prepared, because the next
// query of this connection may reach another session of the database.
func (db *DB) sharedRow(ctx context.Context, query string, args []any) Row {
	bounded, cancel := context.WithTimeout(ctx, readTime)
	for n := 1; ; n++ {
		row := db.read.QueryRowContext(bounded, query, args...)
		err := row.Err()
		if err == nil || n == readAttempts || !db.again(ctx, err) {
			return Row{row: row, err: expired(ctx, err), dialect: &db.dialect, done: cancel}
		}
	}
}

func (db *DB) sharedRows(ctx context.Context, query string, args []any) (*Rows, error) {
	// Rows may be read slowly, so the bound ends when they begin to come.
	bounded, cancel := context.WithCancel(ctx)
	bound := time.AfterFunc(readTime, cancel)
	defer bound.Stop()
	for n := 1; ; n++ {
		rows, err := db.read.QueryContext(bounded, query, args...) //nolint:rowserrcheck // the caller reads them
		if err == nil {
			return &Rows{Rows: rows, dialect: &db.dialect, done: cancel}, nil
		}
		if n == readAttempts || !db.again(ctx, err) {
			cancel()
			return nil, db.dialect.translate(expired(ctx, err))
		}
	}
}

// Reads runs queries one after another: on a shared database in one round trip. They
// need not see the same moment. Row may be called again for rows that it was called
// for before, when a connection broke in between: it should set things, not add them.
func (db *DB) Reads(ctx context.Context, all ...Statement) error {
	if len(all) == 0 {
		return nil
	}
	if db.dialect.Shared == nil {
		for _, s := range all {
			if err := db.each(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}
	inner, t := db.begin(ctx, all[0].Text)
	bounded, cancel := context.WithTimeout(inner, readTime)
	defer cancel()
	for n := 1; ; n++ {
		err := db.sendReads(bounded, all)
		if err == nil || n == readAttempts || !db.again(ctx, err) {
			err = db.dialect.translate(expired(ctx, err))
			t.end(err)
			return err
		}
	}
}

func (db *DB) sendReads(ctx context.Context, all []Statement) error {
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	return db.dialect.Shared.Send(ctx, conn, all)
}

// each calls s.Row for each row of a query.
func (db *DB) each(ctx context.Context, s Statement) error {
	rows, err := db.Query(ctx, s.Text, s.Args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := s.Row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// again reports whether a query that failed may succeed on another connection.
func (db *DB) again(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	if db.dialect.Shared.Broken(err) {
		db.refresh()
		return true
	}
	return db.dialect.Shared.Retry(err)
}

// expired returns the error of a query: that of our bound is not the caller's.
func expired(ctx context.Context, err error) error {
	if err != nil && ctx.Err() == nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return fmt.Errorf("%w: no answer within %v", ErrUnavailable, readTime)
	}
	return err
}
