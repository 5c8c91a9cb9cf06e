package sqlite

import (
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Dialect describes SQLite as this package opens it, for an [Engine] whose driver
// has errors of its own.
func Dialect() sqldb.Dialect { return dialect() }

func dialect() sqldb.Dialect {
	return sqldb.Dialect{
		Name:      "sqlite",
		Begin:     "BEGIN IMMEDIATE",
		InProcess: true,
		Clustered: "WITHOUT ROWID",
		// There is one writer, so rows are numbered in the order of commits. A number
		// is used again if its row was the last one.
		Ordered:  "tx INTEGER PRIMARY KEY, seq BIGINT NOT NULL DEFAULT 0,",
		Horizon:  "9223372036854775807",
		Integers: "SELECT value FROM json_each(?)",
		Integrity: []string{
			"SELECT integrity_check FROM pragma_integrity_check",
			`SELECT 'row ' || COALESCE(rowid, '') || ' of ' || "table" || ' refers to nothing in ' || parent FROM pragma_foreign_key_check`,
		},
		Snapshot:    []string{"BEGIN", "SELECT 1 FROM sqlite_schema LIMIT 1"}, // the first read takes it
		Fatal:       isFatal,
		Translate:   translate,
		AfterCommit: newCheckpoints(),
	}
}

// checkpointAt is how many pages the log may have before they are copied into
// the database: 16 MB. A page that is written again and again is copied once, so the
// 1,000 of SQLite's own default copy the inner pages of the indexes four times as often,
// with two fsyncs each time. After a crash the next start reads the log once.
const checkpointAt = 4000

// askEvery is how many pages of the log a commit may add so that the log is asked for
// its size only when it may have come near checkpointAt: that question costs as much
// as two statements of a push, and most commits add some ten pages.
const askEvery = 512

// newCheckpoints returns what copies the log into the database when there is enough of
// it. It is for one connection. SQLite would do so by itself, but it drops the errors:
// after an fsync of the database that failed its next try succeeds, without the pages
// that the kernel gave up, and what was acknowledged is lost with the log.
func newCheckpoints() func(query func(text string) sqldb.Row) error {
	rest := 0 // commits until the log is asked for its size
	return func(query func(text string) sqldb.Row) error {
		if rest > 0 {
			rest--
			return nil
		}
		var busy, frames, copied int
		if err := query("PRAGMA wal_checkpoint(NOOP)").Scan(&busy, &frames, &copied); err != nil {
			return fmt.Errorf("asking for the size of the log: %w", err)
		}
		if frames < checkpointAt || copied == frames {
			rest = max(0, checkpointAt-frames) / askEvery
			return nil
		}
		if err := query("PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &frames, &copied); err != nil {
			return fmt.Errorf("copying the log into the database: %w", err)
		}
		return nil
	}
}

// code returns SQLite's extended result code, 0 if err is not of SQLite.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code()
	}
	return 0
}

// isFatal reports a failed fsync: the kernel may have dropped the pages it
// could not write, so neither the database nor a second try can be believed.
func isFatal(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC:
		return true
	}
	return false
}

func translate(err error) error {
	switch code(err) & 0xff { // the primary code
	case sqlite3.SQLITE_FULL:
		return registry.ErrStorageFull.Because(err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_CANTOPEN: // no descriptor is left for one more connection
		return registry.ErrUnavailable.Because(err)
	}
	return err
}
