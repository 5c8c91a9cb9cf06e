package sqldb

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// attempts is how often a transaction that meets others is tried.
const attempts = 8

// direct runs each operation in a transaction of its own.
type direct struct {
	db      *sql.DB
	dialect *Dialect
	fatal   func(error)
	low     chan struct{} // holds an element while a low-priority operation runs
	closed  atomic.Bool
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
		if err == nil || n == attempts || !d.dialect.retry(err) {
			if err != nil && d.dialect.fatal(err) {
				d.fatal(err)
			}
			return err
		}
		// The others that it met wait different times.
		pause := time.NewTimer(rand.N(time.Millisecond << n))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

func (d *direct) try(ctx context.Context, fn func(*Tx) error) error {
	t, err := d.db.BeginTx(ctx, &sql.TxOptions{Isolation: d.dialect.Isolation})
	if err != nil {
		return err
	}
	tx := &Tx{ctx: ctx, s: t}
	if err := apply(tx, fn); err != nil {
		t.Rollback()
		return err
	}
	for _, b := range tx.brackets {
		b.begin()
	}
	err = t.Commit()
	for _, b := range tx.brackets {
		b.end()
	}
	return err
}

// failure is nil: a server of its own answers for its disk.
func (d *direct) failure() error { return nil }

func (d *direct) close() error {
	d.closed.Store(true)
	return nil
}
