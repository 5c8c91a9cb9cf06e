package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// attempts is how often a transaction that meets others is tried.
const attempts = 10

// connectTime is how long an operation or a query waits for a connection.
const connectTime = 10 * time.Second

// direct runs each operation in a transaction of its own.
type direct struct {
	db      *sql.DB
	dialect *Dialect
	low     chan struct{} // holds an element while a low-priority operation runs
	refresh func()        // closes the connections that are idle
	meters  atomic.Pointer[meters]
	closed  atomic.Bool

	swept atomic.Int64   // when the last sweep began, in microseconds
	sweep sync.WaitGroup // the sweep that runs
}

func newDirect(db *sql.DB, dialect *Dialect, refresh func()) *direct {
	d := &direct{db: db, dialect: dialect, low: make(chan struct{}, 1), refresh: refresh}
	d.observe(newMeters(nil))
	d.swept.Store(time.Now().UnixMicro())
	return d
}

func (d *direct) write(ctx context.Context, low bool, fn func(*Tx) error) error {
	if low {
		select {
		case d.low <- struct{}{}:
			defer func() { <-d.low }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for n := 1; ; n++ {
		if d.closed.Load() {
			return ErrClosed
		}
		err := d.try(ctx, fn)
		if err == nil || n == attempts || ctx.Err() != nil {
			return err
		}
		switch {
		case errors.Is(err, errNoConnection), errors.Is(err, errUnknown):
			return err
		case d.dialect.Shared.Broken(err):
			// Probably they all are. Those that connect now find out how things stand.
			d.refresh()
		case !d.dialect.Shared.Retry(err):
			return err
		}
		d.meters.Load().retries.Inc()
		if err := pause(ctx, rand.N(time.Millisecond<<n)); err != nil {
			return err
		}
	}
}

// pause waits, each caller for another time than those it met.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ErrUnavailable says that the database can't be used just now: it is away, too
// slow, or all connections are in use. What was asked for has not happened, or
// nobody could find out in time whether it has.
var ErrUnavailable = errors.New("the database is not available")

// errNoConnection says that there is none to be had just now.
var errNoConnection = fmt.Errorf("%w: no connection", ErrUnavailable)

// connect takes a connection out of the pool, or makes one.
func (d *direct) connect(ctx context.Context) (*sql.Conn, error) {
	bounded, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := d.db.Conn(bounded)
	if err != nil && ctx.Err() == nil {
		return nil, fmt.Errorf("%w: %w", errNoConnection, err)
	}
	return conn, err
}

// try runs fn in a transaction.
func (d *direct) try(ctx context.Context, fn func(*Tx) error) error {
	conn, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	s := &directTx{conn: conn, d: d}
	tx := &Tx{ctx: ctx, s: s}
	if err := apply(tx, fn); err != nil {
		s.rollback(ctx)
		return err
	}
	for _, b := range tx.brackets {
		b.begin()
	}
	began := time.Now()
	err = s.commit(ctx)
	d.meters.Load().commit.Since(began)
	for _, b := range tx.brackets {
		b.end()
	}
	if err == nil {
		d.sweepOld()
	}
	return err
}

func (d *direct) observe(m *meters) { d.meters.Store(m) }

// failure is nil: a server of its own answers for its disk.
func (d *direct) failure() error { return nil }

func (d *direct) oldest() time.Duration { return 0 }

func (d *direct) close() error {
	d.closed.Store(true)
	d.sweep.Wait()
	return nil
}
