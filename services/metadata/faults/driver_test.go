package faults

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"regexp"

	sqlite3 "github.com/ncruces/go-sqlite3/driver"
)

// openPool opens a database with this driver. Its placeholders are numbered with a
// question mark: what begins with a dollar is a name to SQLite.
func openPool(dsn string) (*sql.DB, error) {
	c, err := new(sqlite3.SQLite).OpenConnector(dsn)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector{c}), nil
}

var numbered = regexp.MustCompile(`\$([0-9]+)`)

func translated(query string) string { return numbered.ReplaceAllString(query, "?$1") }

type connector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	under, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return conn{under}, nil
}

type conn struct{ driver.Conn }

// PrepareContext implements [driver.ConnPrepareContext].
func (c conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, translated(query))
}

// ExecContext implements [driver.ExecerContext].
func (c conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, translated(query), args)
}

// CheckNamedValue implements [driver.NamedValueChecker].
func (c conn) CheckNamedValue(v *driver.NamedValue) error {
	if under, ok := c.Conn.(driver.NamedValueChecker); ok {
		return under.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// ResetSession implements [driver.SessionResetter].
func (c conn) ResetSession(ctx context.Context) error {
	if under, ok := c.Conn.(driver.SessionResetter); ok {
		return under.ResetSession(ctx)
	}
	return nil
}
