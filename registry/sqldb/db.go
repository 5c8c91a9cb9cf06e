package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry/tracing"
)

// ErrClosed is the error of operations after [DB.Close].
var ErrClosed = errors.New("database is closed")

// DB is one database: a pool to read from and the one way to write to it.
type DB struct {
	dialect Dialect
	read    *sql.DB
	writes  *sql.DB
	w       writer
	release func() error
	refresh func()
	meters  atomic.Pointer[meters]

	mu    sync.RWMutex // guards stmts
	stmts map[string]*sql.Stmt
}

// writer runs operations: the collector or direct.
type writer interface {
	write(ctx context.Context, low bool, fn func(*Tx) error) error
	failure() error
	oldest() time.Duration // how long the transaction under way has taken
	observe(*meters)
	close() error
}

// Options are what a driver package hands to [Open].
type Options struct {
	Dialect Dialect
	// Write is the pool to write through. If writes are collected it must have
	// exactly one connection.
	Write *sql.DB
	// Read is the pool to read from. It may be Write if writes are not collected.
	Read *sql.DB
	// Fatal is called, once, with an error that [Dialect.Fatal] reports. It should
	// end the process; if it returns, all writes fail from then on. It must not
	// call the DB.
	Fatal func(error)
	// Idle is how many connections each pool keeps that are not in use. It is
	// needed for shared databases, whose idle connections are closed when one of
	// them turns out to be broken.
	Idle int
	// Release is called after the pools are closed by [DB.Close]. nil if there is
	// nothing to do.
	Release func() error
}

// Open returns the database behind o's pools. They belong to it from then on,
// and are closed if it fails.
func Open(ctx context.Context, o Options) (*DB, error) {
	db := &DB{dialect: o.Dialect, read: o.Read, writes: o.Write, release: o.Release, stmts: map[string]*sql.Stmt{}}
	db.meters.Store(newMeters(nil))
	db.refresh = func() {
		for _, pool := range []*sql.DB{o.Write, o.Read} {
			pool.SetMaxIdleConns(0)
			pool.SetMaxIdleConns(o.Idle)
		}
	}
	fatal := o.Fatal
	if fatal == nil {
		fatal = func(error) {}
	}
	if o.Dialect.Begin == "" {
		db.w = newDirect(o.Write, &db.dialect, db.refresh)
		return db, nil
	}
	c, err := newCollector(ctx, o.Write, &db.dialect, fatal)
	if err != nil {
		db.closePools()
		return nil, fmt.Errorf("opening the connection to write: %w", err)
	}
	db.w = c
	return db, nil
}

// Dialect returns where this database differs from others.
func (db *DB) Dialect() Dialect { return db.dialect }

// Write runs fn in a transaction and returns when that is durable and visible
// to every read that begins from then on, or with the error that undid all that
// fn did. If fn fails or panics only its own changes are undone.
//
// When ctx ends first, Write returns its error: the operation has then happened
// as a whole or not at all, and fn is not running any more. fn may run more than
// once. It must not use the DB, wait for anything, or start goroutines.
func (db *DB) Write(ctx context.Context, fn func(*Tx) error) error {
	return db.write(ctx, 0, fn)
}

// WriteLow is [DB.Write] for work nobody waits for: it runs alone, in a
// transaction of its own, and a Write never waits for more than one of them. fn
// must be short.
func (db *DB) WriteLow(ctx context.Context, fn func(*Tx) error) error {
	return db.write(ctx, 1, fn)
}

// write runs fn with a priority: 0 as [DB.Write], 1 as [DB.WriteLow] does.
func (db *DB) write(ctx context.Context, priority int, fn func(*Tx) error) error {
	began := time.Now()
	ctx, span := tracing.Start(ctx, "write", tracing.Inside)
	span.Text("db.system.name", db.dialect.Name)
	err := db.dialect.translate(db.w.write(ctx, priority == 1, fn))
	span.End(err)
	db.meters.Load().write[priority].Since(began)
	return err
}

// begin starts the clock of a query.
func (db *DB) begin(ctx context.Context, query string) (context.Context, timing) {
	ctx, span := tracing.Start(ctx, "query", tracing.Client)
	if span.On() { // the text is ours; values are never in it
		span.Text("db.system.name", db.dialect.Name)
		span.Text("db.query.text", query)
	}
	return ctx, timing{db.meters.Load(), time.Now(), span}
}

// QueryRow runs a query that returns at most one row, on the pool to read from.
func (db *DB) QueryRow(ctx context.Context, query string, args ...any) Row {
	ctx, t := db.begin(ctx, query)
	if db.dialect.Shared != nil {
		row := db.sharedRow(ctx, query, args)
		row.timing = t
		return row
	}
	st, err := db.prepare(ctx, query)
	if err != nil {
		return Row{err: err, dialect: &db.dialect, timing: t}
	}
	return Row{row: st.QueryRowContext(db.context(ctx), args...), dialect: &db.dialect, timing: t}
}

// Query runs a query on the pool to read from. The caller closes the rows.
func (db *DB) Query(ctx context.Context, query string, args ...any) (*Rows, error) {
	ctx, t := db.begin(ctx, query)
	rows, err := db.query(ctx, query, args)
	t.end(err)
	return rows, err
}

// QueryOnce is Query for a statement whose text is one of very many: it is not kept
// prepared. Wherever the database is, it ends with ctx.
func (db *DB) QueryOnce(ctx context.Context, query string, args ...any) (*Rows, error) {
	ctx, t := db.begin(ctx, query)
	rows, err := db.queryOnce(ctx, query, args)
	t.end(err)
	return rows, err
}

func (db *DB) queryOnce(ctx context.Context, query string, args []any) (*Rows, error) {
	if db.dialect.Shared != nil {
		return db.sharedRows(ctx, query, args)
	}
	rows, err := db.read.QueryContext(ctx, query, args...) //nolint:rowserrcheck // the caller reads them
	if err != nil {
		return nil, db.dialect.translate(err)
	}
	return &Rows{Rows: rows, dialect: &db.dialect}, nil
}

func (db *DB) query(ctx context.Context, query string, args []any) (*Rows, error) {
	if db.dialect.Shared != nil {
		return db.sharedRows(ctx, query, args)
	}
	st, err := db.prepare(ctx, query)
	if err != nil {
		return nil, db.dialect.translate(err)
	}
	rows, err := st.QueryContext(db.context(ctx), args...) //nolint:rowserrcheck // the caller reads them
	if err != nil {
		return nil, db.dialect.translate(err)
	}
	return &Rows{Rows: rows, dialect: &db.dialect}, nil
}

// context returns the context that statements get.
func (db *DB) context(ctx context.Context) context.Context {
	if db.dialect.InProcess {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// prepare returns the statement for query, which is prepared on each connection
// of the pool when that first runs it.
func (db *DB) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	db.mu.RLock()
	st := db.stmts[query]
	db.mu.RUnlock()
	if st != nil {
		return st, nil
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if st := db.stmts[query]; st != nil {
		return st, nil
	}
	st, err := db.read.PrepareContext(db.context(ctx), query)
	if err != nil {
		return nil, fmt.Errorf("preparing a query: %w", err)
	}
	db.stmts[query] = st
	return st, nil
}

// Failed returns the error that made all writes fail for good, nil if none has.
func (db *DB) Failed() error { return db.w.failure() }

// Oldest returns how long the transaction has taken that is under way, 0 if none is.
// It is always 0 where there may be several: their servers have limits of their own.
func (db *DB) Oldest() time.Duration { return db.w.oldest() }

// Ping reports whether the database answers.
func (db *DB) Ping(ctx context.Context) error {
	if db.dialect.Shared != nil { // a connection that is there says nothing
		var one int
		return db.QueryRow(ctx, "SELECT 1").Scan(&one)
	}
	return db.read.PingContext(ctx)
}

// Close finishes the writes that are queued, refuses others with [ErrClosed],
// and closes the pools. It may be called only once.
//
// After a fatal error the pools stay open until the process ends: a database
// that is closed may try again to make its content durable, believe the second
// fsync, and remove the log that the next start needs.
func (db *DB) Close() error {
	if db.Failed() != nil {
		return db.w.close()
	}
	err := errors.Join(db.w.close(), db.closePools())
	if db.release != nil {
		err = errors.Join(err, db.release())
	}
	return err
}

func (db *DB) closePools() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	for _, st := range db.stmts {
		st.Close()
	}
	clear(db.stmts)
	err := db.read.Close()
	if db.writes != db.read {
		err = errors.Join(err, db.writes.Close())
	}
	return err
}
