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
// PostgreSQL every operation is a transaction of its own that is repeated when
// the database asks for it.
//
// docs/adr/0004-sqlite-collecting-writer.md has the reasons, and
// docs/adr/0005-migrations.md those for [DB.Migrate].
package sqldb
