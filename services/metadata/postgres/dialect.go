package postgres

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/berth-registry/berth/registry/sqldb"
)

func dialect(durable bool) sqldb.Dialect {
	return sqldb.Dialect{
		Name: "postgres",
		// A transaction gets its number with its first change, which comes after its
		// locks. That of one it waited for is smaller. Below the oldest that is open
		// nothing is added any more.
		Ordered: "tx BIGINT NOT NULL DEFAULT CAST(CAST(pg_current_xact_id() AS TEXT) AS BIGINT), " +
			"seq BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY, PRIMARY KEY (tx, seq),",
		Horizon: "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS TEXT) AS BIGINT)",
		Snapshot: []string{
			"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
			"SELECT set_config('idle_in_transaction_session_timeout', '0', TRUE), set_config('statement_timeout', '0', TRUE)",
		},
		Schema:    bytewise,
		Integers:  "SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST(? AS json))",
		Translate: translate,
		Shared: &sqldb.Shared{
			Begin:   "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
			Clock:   "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
			Lock:    func(all []sqldb.Lock, patient bool) sqldb.Statement { return lock(all, durable, patient) },
			Send:    send,
			Retry:   isConflict,
			Broken:  isBroken,
			Refused: isRefused,
		},
	}
}

var text = regexp.MustCompile(`\bTEXT\b`)

// bytewise makes columns compare by their bytes, whatever the collation of the
// database: pages of names follow each other in the order that clients rely on.
func bytewise(statement string) string {
	return text.ReplaceAllString(statement, `TEXT COLLATE "C"`)
}

// What a transaction sets for itself: PgBouncer hands its session to others
// afterwards. One that is cut off between two statements must not keep its locks.
const (
	setEnd       = `set_config('idle_in_transaction_session_timeout', '10s', TRUE)`
	setBounds    = `, set_config('lock_timeout', '10s', TRUE), set_config('statement_timeout', '15s', TRUE)`
	setUnbounded = `, set_config('lock_timeout', '0', TRUE), set_config('statement_timeout', '0', TRUE)`
	setDurable   = `, CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', TRUE) END`
)

// lock returns the query that takes advisory locks, which end with the
// transaction. The items of a list are evaluated in order.
func lock(all []sqldb.Lock, durable, patient bool) sqldb.Statement {
	var b strings.Builder
	b.WriteString("SELECT " + setEnd)
	if patient {
		b.WriteString(setUnbounded)
	} else {
		b.WriteString(setBounds)
	}
	if durable {
		b.WriteString(setDurable)
	}
	s := sqldb.Statement{Args: make([]any, len(all))}
	for i, l := range all {
		shared := ""
		if l.Shared {
			shared = "_shared"
		}
		fmt.Fprintf(&b, ", pg_advisory_xact_lock%s($%d)", shared, i+1)
		s.Args[i] = l.Key()
	}
	s.Text = b.String()
	return s
}
