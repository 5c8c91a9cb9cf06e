// Package postgres opens the PostgreSQL database of package metadata. Any number
// of processes may use one database, also through PgBouncer in transaction mode.
//
// docs/adr/0009-postgresql.md has the reasons for how it is used.
package postgres
