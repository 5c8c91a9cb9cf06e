package sqldb

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
)

// leasesTable is made with the table of schema versions.
const leasesTable = `CREATE TABLE IF NOT EXISTS leases (name TEXT NOT NULL PRIMARY KEY, owner TEXT NOT NULL, until BIGINT NOT NULL)`

// Lease lets one process at a time do some work on a shared database. Where a
// process has the database alone it always gets it.
type Lease struct {
	db    *DB
	name  string
	owner string
}

// Lease returns the lease of that name.
func (db *DB) Lease(name string) *Lease { return &Lease{db: db, name: name, owner: rand.Text()} }

// Take reports whether the work may be done, for term from before the call. It
// takes the lease, or takes it for longer.
func (l *Lease) Take(ctx context.Context, term time.Duration) (taken bool, err error) {
	sh := l.db.dialect.Shared
	if sh == nil {
		return true, nil
	}
	err = l.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock(); err != nil { // the row is lock enough
			return err
		}
		n, err := tx.Exec(`
			INSERT INTO leases (name, owner, until) VALUES ($1, $2, `+sh.Clock+` + $3)
			ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, until = excluded.until
			WHERE leases.owner = excluded.owner OR leases.until < `+sh.Clock, l.name, l.owner, term.Microseconds())
		taken = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("taking the lease for %s: %w", l.name, err)
	}
	return taken, nil
}

// Give gives the lease back before its time.
func (l *Lease) Give(ctx context.Context) error {
	if l.db.dialect.Shared == nil {
		return nil
	}
	err := l.db.Write(ctx, func(tx *Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		return tx.Queue(`DELETE FROM leases WHERE name = $1 AND owner = $2`, l.name, l.owner)
	})
	if err != nil {
		return fmt.Errorf("giving back the lease for %s: %w", l.name, err)
	}
	return nil
}
