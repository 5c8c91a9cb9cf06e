package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// Snapshot is a database as it was at one moment, see [DB.Snapshot].
type Snapshot struct {
	ctx     context.Context // bounds the queries
	conn    *sql.Conn
	dialect *Dialect
}

// Snapshot calls fn with the database as it is at one moment, whatever is written
// meanwhile. While fn runs, the database keeps what others remove and a connection
// to read with is in use.
func (db *DB) Snapshot(ctx context.Context, fn func(*Snapshot) error) (err error) {
	conn, err := db.read.Conn(ctx)
	if err != nil {
		return db.dialect.translate(fmt.Errorf("connecting to read a snapshot: %w", err))
	}
	defer conn.Close()
	inner := db.context(ctx)
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTime)
		defer cancel()
		if _, e := conn.ExecContext(end, "ROLLBACK"); e != nil {
			_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // closes it
		}
	}()
	for _, s := range db.dialect.Snapshot {
		if _, err := conn.ExecContext(inner, s); err != nil {
			return db.dialect.translate(fmt.Errorf("beginning to read a snapshot: %w", err))
		}
	}
	return fn(&Snapshot{ctx: inner, conn: conn, dialect: &db.dialect})
}

// Each calls row for each row of a query. scan is as that of [sql.Rows].
func (s *Snapshot) Each(ctx context.Context, query string, args []any, row func(scan func(...any) error) error) error {
	rows, err := s.conn.QueryContext(s.ctx, query, args...)
	if err != nil {
		return s.dialect.translate(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return s.dialect.translate(rows.Err())
}

// One scans the row that a query returns, or returns [sql.ErrNoRows].
func (s *Snapshot) One(query string, args []any, dest ...any) error {
	err := s.conn.QueryRowContext(s.ctx, query, args...).Scan(dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return s.dialect.translate(err)
}
