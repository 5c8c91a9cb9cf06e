package sqldb

import (
	"math/bits"
	"strconv"
	"strings"
)

// Dialect is where one database differs from another. The functions may be nil.
type Dialect struct {
	// Name of the database, for messages.
	Name string

	// Begin begins a transaction that takes the write lock at once. If it is
	// set, writes are collected, see [DB.Write]; "" means that each write is a
	// transaction of its own, on a database that other processes use, too. Such a
	// dialect has Shared.
	Begin string

	// Shared says how operations of many processes share the database. It is nil
	// if writes are collected: they run one after another.
	Shared *Shared

	// InProcess says that statements are short calls in this process. A context
	// that ends then ends the wait for a statement's turn, but not the statement:
	// watching it would cost a goroutine per query and could abort a transaction
	// that others share.
	InProcess bool

	// Clustered replaces the comment /*clustered*/ in migrations. It follows the
	// column list of a table that is to be stored in the order of its primary key.
	Clustered string

	// Ordered replaces the comment /*ordered*/ in migrations: the definitions, each
	// with a comma behind it, of two BIGINT columns named tx and seq that are the
	// primary key of a table. The database fills them in, such that rows of
	// transactions that depend on each other compare in the order of these, and
	// rows of one transaction in the order they were added.
	Ordered string

	// Horizon is an expression that is larger than the tx of each row that is
	// committed, unless a transaction that may still add rows with a smaller one is
	// open: who reads rows below it, in order, misses none.
	Horizon string

	// Integers is a query for the integers of a JSON array, in which ? stands for the
	// array.
	Integers string

	// Snapshot are the statements that begin a transaction which sees the database
	// as it is when they have run, and can't change it.
	Snapshot []string

	// Schema adapts a statement of a migration. It is applied before Clustered.
	Schema func(statement string) string

	// Integrity are queries whose rows, but for a row "ok", each tell of something
	// that is broken in the database itself. They may read all of it.
	Integrity []string

	// Free returns how many bytes can still be stored where the database is. nil if
	// that is somebody else's concern.
	Free func() (int64, error)

	// Fatal reports that what the database holds is no longer certain: an fsync
	// failed. Nothing may be written after it.
	Fatal func(error) bool

	// AfterCommit runs after each collected transaction, outside of any, on the
	// connection that writes; query runs a query for one row there. It does what
	// the database would otherwise do by itself without telling of an error. One
	// that Fatal reports ends all writing, others are dropped: the next commit
	// brings the next try.
	AfterCommit func(query func(text string) Row) error

	// Translate gives a driver's error a meaning that callers know, a full disk
	// for instance, and returns all others as they are.
	Translate func(error) error
}

// schema returns a statement of a migration as this database takes it.
func (d *Dialect) schema(statement string) string {
	if d.Schema != nil {
		statement = d.Schema(statement)
	}
	if d.Ordered != "" {
		statement = strings.ReplaceAll(statement, "/*ordered*/", d.Ordered)
	}
	if d.Clustered != "" {
		statement = strings.ReplaceAll(statement, "/*clustered*/", d.Clustered)
	}
	return statement
}

func (d *Dialect) fatal(err error) bool { return d.Fatal != nil && d.Fatal(err) }

func (d *Dialect) translate(err error) error {
	if err == nil || d.Translate == nil {
		return err
	}
	return d.Translate(err)
}

// maxPadded keeps the number of placeholders low: SQLite allows 32,766, but looks for
// the name of each from the first one on, so that a statement of 3,000 costs a hundred
// times what one of 300 costs.
const maxPadded = 128

// Padded calls f with one part of items after another, each padded to a power
// of two of at most 128 items by repeating its last one. So a statement that
// lists items has only eight texts. Repetition does no harm to IN (…), nor to
// INSERT … ON CONFLICT DO NOTHING.
func Padded[T any](items []T, f func(part []T) error) error {
	for len(items) > 0 {
		n := min(len(items), maxPadded)
		size := 1 << bits.Len(uint(n-1))
		part := make([]T, size)
		copy(part, items[:n])
		for i := n; i < size; i++ {
			part[i] = items[n-1]
		}
		if err := f(part); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// Placeholders returns "$first,$first+1,…", n of them.
func Placeholders(first, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(first + i))
	}
	return b.String()
}
