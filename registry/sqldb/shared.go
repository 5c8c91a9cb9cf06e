package sqldb

import (
	"context"
	"database/sql"
	"hash/fnv"
)

// Shared is how operations use a database that other processes use, too: each
// is a transaction of its own, and several run at the same time. All functions
// must be set.
type Shared struct {
	// Begin begins a transaction whose statements each see what was committed
	// before the statement: an operation that waited for a lock reads what the one
	// before it wrote.
	Begin string

	// Clock is an expression for the time by the database's clock, in microseconds
	// since 1970.
	Clock string

	// Lock returns the query that takes locks, in their order, until the
	// transaction ends. Unless patient, it bounds how long the transaction may wait
	// or run, too.
	Lock func(all []Lock, patient bool) Statement

	// Send runs statements on a connection in one round trip. They end with the
	// first that fails.
	Send func(ctx context.Context, conn *sql.Conn, all []Statement) error

	// Retry reports that a transaction met another one and should run again.
	Retry func(error) bool

	// Broken reports that a connection is of no use any more, or that it failed
	// while something else than the statements was to blame.
	Broken func(error) bool

	// Refused reports that the database has said that it did not do something: an
	// answer to COMMIT that is neither success nor this leaves it unknown.
	Refused func(error) bool
}

// Lock names what an operation relies on. Operations with the same name run one
// after another, unless both are shared.
type Lock struct {
	Name   string
	Shared bool
}

// Key is the lock's name as a number. Two names may have the same: an operation
// then waits for another one without need.
func (l Lock) Key() int64 {
	h := fnv.New64a()
	h.Write([]byte(l.Name)) // never fails, see hash.Hash
	return int64(h.Sum64())
}

// everything is the name of the lock that each operation takes first: shared if
// it says what it relies on, or else alone.
const everything = "\x00everything"

// Statement is one of several that are sent together.
type Statement struct {
	Text string
	Args []any
	// Row is called for each row of the answer. scan is as that of [sql.Rows]; it
	// is valid during the call. nil drops the answer.
	Row func(scan func(dest ...any) error) error
	// Changed is told how many rows the statement changed; nil if nobody asks.
	Changed func(rows int64)
	// Unless points to what an earlier statement finds out, in its Changed or Row: if
	// that is true, this one would change nothing and tell nothing new, and is left out
	// where statements run one after another. Where they are sent together it runs all
	// the same. nil if it is always needed.
	Unless *bool
}
