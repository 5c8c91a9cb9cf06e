// Package sqlite opens the catalog's database in a file: SQLite (modernc.org,
// without cgo) in WAL mode with synchronous=FULL, one connection that writes and
// a few that read. It owns <root>/.berth/metadata.db and its lock, and knows
// what SQLite's error codes mean; all statements are in package metadata.
package sqlite
