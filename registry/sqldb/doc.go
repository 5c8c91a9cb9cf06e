// Package sqldb is what Berth's services share to keep tables: one set of
// statements for SQLite and PostgreSQL over database/sql. It imports no driver;
// the driver packages of each service bring a [Dialect] and open the pools.
//
// # Statements
//
// Placeholders are $1, $2, …; digests are BYTEA, times BIGINT microseconds,
// identities BIGINT given by the application. A statement's text is the key of
// the cache of prepared statements, so texts must come from a small fixed set:
// never build one from data. Lists are padded to a power of two, see [Padded].
//
// # The collecting writer
//
// On SQLite all changes go through one goroutine ([Dialect.Begin] is set). What
// queued while one transaction was being committed becomes the next, each
// operation in a SAVEPOINT of its own, and all of them are answered after the
// COMMIT: many writers share one fsync, and a lone writer waits for nobody. On
// PostgreSQL ([Dialect.Shared] is set) every operation is a transaction of its
// own, beside those of other processes. It names what it relies on by [Tx.Lock],
// or runs alone; it is repeated when it met another one all the same, or when its
// connection broke before the commit. One whose COMMIT got no answer leaves a row
// that tells whether it happened.
//
// docs/adr/0004-sqlite-collecting-writer.md has the reasons, and
// docs/adr/0005-migrations.md those for [DB.Migrate], docs/adr/0009-postgresql.md
// those for shared databases.
package sqldb
