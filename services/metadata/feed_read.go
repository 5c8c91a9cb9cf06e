package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Position is a place in the feed of events. The zero value is before the first.
type Position struct {
	Tx  int64 `json:"tx"`
	Seq int64 `json:"seq"`
}

// Before reports whether p is before q.
func (p Position) Before(q Position) bool { return p.Tx < q.Tx || p.Tx == q.Tx && p.Seq < q.Seq }

// Event is one change of the catalog. Fields that say nothing for its Kind are
// empty.
type Event struct {
	Position Position
	Kind     EventKind
	At       int64  // microseconds since 1970
	Actor    string // Actor.ID, "" if anonymous or nobody
	RepoID   int64  // never used for another repository
	Repo     registry.Name
	Name     string
	Digest   registry.Digest
	Number   int64
	Pool     registry.Pool
	Locator  registry.Locator
	Size     int64
}

// feed is what a catalog knows of its events.
type feed struct {
	after string       // the query for events behind ($1, $2), at most $3 of them
	last  string       // the query for the position of the last of all that may be read
	fresh atomic.Int64 // how many this process has told since somebody looked
	wake  chan struct{}
	any   chan struct{} // holds an element if an event was told since somebody looked
}

// feedBatch is how many events are journalled at once.
const feedBatch = 1000

func newFeed(d sqldb.Dialect) *feed {
	return &feed{after: sqlEventsAfter(d.Horizon), last: sqlLastBelow(d.Horizon), wake: make(chan struct{}, 1), any: make(chan struct{}, 1)}
}

// sqlEventsAfter is a query that never shows an event before one that may still be
// committed.
func sqlEventsAfter(horizon string) string {
	return `SELECT tx, seq, kind, at, actor, repo_id, repo, name, digest, number, pool, locator, size FROM events
		WHERE (tx, seq) > ($1, $2) AND tx < ` + horizon + ` ORDER BY tx, seq LIMIT $3`
}

func sqlLastBelow(horizon string) string {
	return `SELECT tx, seq FROM events WHERE tx < ` + horizon + ` ORDER BY tx DESC, seq DESC LIMIT 1`
}

// told counts events that were recorded, or nearly so.
func (f *feed) told(n int64) {
	select {
	case f.any <- struct{}{}:
	default:
	}
	if f.fresh.Add(n) < feedBatch {
		return
	}
	f.fresh.Store(0)
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// Events returns at most limit events behind a position, in an order in which each
// comes after those it depends on. There will never be others between or before
// them. Events that all registered readers have seen may be gone.
func (c *Catalog) Events(ctx context.Context, after Position, limit int) ([]Event, error) {
	rows, err := c.db.Query(ctx, c.feed.after, after.Tx, after.Seq, limit)
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	defer rows.Close()
	var all []Event
	for rows.Next() {
		e, err := scanEvent(rows)
		if err != nil {
			return nil, fmt.Errorf("reading events: %w", err)
		}
		all = append(all, e)
	}
	return all, rows.Err()
}

func scanEvent(rows *sqldb.Rows) (Event, error) {
	var (
		e                         Event
		repoID, number, size      sql.NullInt64
		repo, name, pool, locator sql.NullString
		digest                    []byte
	)
	err := rows.Scan(&e.Position.Tx, &e.Position.Seq, &e.Kind, &e.At, &e.Actor, &repoID, &repo, &name, &digest, &number, &pool, &locator, &size)
	if err != nil {
		return Event{}, err
	}
	if digest != nil {
		if e.Digest, err = unpack(digest); err != nil {
			return Event{}, err
		}
	}
	e.RepoID, e.Repo, e.Name, e.Number = repoID.Int64, registry.Name(repo.String), name.String, number.Int64
	e.Pool, e.Locator, e.Size = registry.Pool(pool.String), registry.Locator(locator.String), size.Int64
	return e, nil
}

const (
	sqlReader    = `SELECT tx, seq, state FROM feed_readers WHERE name = $1`
	sqlSetReader = `
		INSERT INTO feed_readers (name, tx, seq, at, state) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO UPDATE SET tx = excluded.tx, seq = excluded.seq, at = excluded.at, state = excluded.state`
	sqlMoveReader   = `UPDATE feed_readers SET tx = $2, seq = $3, at = $4, state = $5 WHERE name = $1`
	sqlForgetReader = `DELETE FROM feed_readers WHERE name = $1`
	sqlSlowest      = `SELECT tx, seq FROM feed_readers ORDER BY tx, seq LIMIT 1`
	sqlDropReaders  = `DELETE FROM feed_readers WHERE tx < $1 OR (tx = $1 AND seq < $2)`

	sqlFirstEvent = `SELECT tx, seq FROM events ORDER BY tx, seq LIMIT 1`
	sqlLastEvent  = `SELECT tx, seq FROM events ORDER BY tx DESC, seq DESC LIMIT 1`
	sqlTrimStep   = `SELECT tx, seq FROM events WHERE tx <= $1 ORDER BY tx, seq LIMIT 1 OFFSET 1000`
	sqlTrim       = `DELETE FROM events WHERE tx <= $1 AND (tx, seq) < ($1, $2)`
)

// errReaderLost says that a reader is not registered: events that it has not seen
// may be gone.
var errReaderLost = errors.New("the reader of the feed is not registered")

// reader returns how far a registered reader has come, and what it keeps with it.
func (c *Catalog) reader(ctx context.Context, name string) (at Position, state string, err error) {
	err = c.db.QueryRow(ctx, sqlReader, name).Scan(&at.Tx, &at.Seq, &state)
	if errors.Is(err, sql.ErrNoRows) {
		return Position{}, "", errReaderLost
	}
	if err != nil {
		return Position{}, "", fmt.Errorf("reading how far the feed was read: %w", err)
	}
	return at, state, nil
}

// register adds a reader, or sets where it is whether it was lost or not.
func (c *Catalog) register(ctx context.Context, name string, at Position, state string) error {
	return c.setReader(ctx, sqlSetReader, name, at, state)
}

// advance sets where a reader is, unless it was lost.
func (c *Catalog) advance(ctx context.Context, name string, to Position, state string) error {
	return c.setReader(ctx, sqlMoveReader, name, to, state)
}

// forget removes the journal's registration: it has to begin anew.
func (c *Catalog) forget(ctx context.Context) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		return tx.Queue(sqlForgetReader, journalReader)
	})
}

func (c *Catalog) setReader(ctx context.Context, query, name string, at Position, state string) error {
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil { // whoever reads has a lease
			return err
		}
		n, err := tx.Exec(query, name, at.Tx, at.Seq, c.now(), state)
		if err == nil && n == 0 {
			err = errReaderLost
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("recording how far the feed was read: %w", err)
	}
	return nil
}

// position returns the one row that a query finds, the zero Position if none.
func (c *Catalog) position(ctx context.Context, query string) (p Position, err error) {
	err = c.db.QueryRow(ctx, query).Scan(&p.Tx, &p.Seq)
	if errors.Is(err, sql.ErrNoRows) {
		return Position{}, nil
	}
	return p, err
}

// maxEvents is how many events are kept at most for readers that are slow: with
// what they name that is about 50 MB.
const maxEvents = 200_000

// trimFeed removes the events that nobody will read, and registrations of readers
// who are too far behind to keep the rest for. Each transaction is a short one.
func (c *Catalog) trimFeed(ctx context.Context, keep int64) error {
	first, err := c.position(ctx, sqlFirstEvent)
	if err != nil {
		return fmt.Errorf("trimming the feed: %w", err)
	}
	last, err := c.position(ctx, sqlLastEvent)
	if err != nil {
		return fmt.Errorf("trimming the feed: %w", err)
	}
	to, err := c.position(ctx, sqlSlowest)
	if err != nil {
		return fmt.Errorf("trimming the feed: %w", err)
	}
	// Where transactions have numbers there are more of those than of events.
	number := last.Seq - first.Seq
	if last.Seq == 0 {
		number = last.Tx - first.Tx
	}
	if number > keep {
		to = last // all of it: a lost reader has no use for what is left
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := to
		err := c.db.QueryRow(ctx, sqlTrimStep, to.Tx).Scan(&step.Tx, &step.Seq)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("trimming the feed: %w", err)
		}
		if to.Before(step) {
			step = to
		}
		if err := c.trimTo(ctx, step); err != nil {
			return fmt.Errorf("trimming the feed: %w", err)
		}
		if step == to {
			return nil
		}
	}
}

// trimTo removes the events before to, and the readers that have not come so far.
func (c *Catalog) trimTo(ctx context.Context, to Position) error {
	return c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(); err != nil {
			return err
		}
		if err := tx.Queue(sqlDropReaders, to.Tx, to.Seq); err != nil {
			return err
		}
		return tx.Queue(sqlTrim, to.Tx, to.Seq)
	})
}
