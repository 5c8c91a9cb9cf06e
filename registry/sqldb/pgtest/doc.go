// Package pgtest runs private PostgreSQL servers for tests, from the programs
// that the machine has. Tests that need one are skipped where there is none.
package pgtest
