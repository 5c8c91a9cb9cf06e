package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
)

// fakeDriver is a database that only records what it is told.
type fakeDriver struct {
	mu    sync.Mutex // guards the fields below
	open  int        // connections
	log   []string
	fail  func(statement string) error // nil: nothing fails
	gates map[string]chan struct{}     // statements that wait before they return
}

// hold lets the next statement wait until the returned function is called.
func (f *fakeDriver) hold(statement string) (release func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	gate := make(chan struct{})
	if f.gates == nil {
		f.gates = map[string]chan struct{}{}
	}
	f.gates[statement] = gate
	return func() { close(gate) }
}

// took returns what was executed since the last call.
func (f *fakeDriver) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	log := f.log
	f.log = nil
	return log
}

func (f *fakeDriver) failOn(statements ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = func(s string) error {
		if slices.Contains(statements, s) {
			return errors.New("fault in " + s)
		}
		return nil
	}
}

func (f *fakeDriver) run(statement string) error {
	f.mu.Lock()
	f.log = append(f.log, statement)
	gate := f.gates[statement]
	delete(f.gates, statement)
	fail := f.fail
	f.mu.Unlock()
	if gate != nil {
		<-gate
	}
	if fail != nil {
		return fail(statement)
	}
	return nil
}

func (f *fakeDriver) Driver() driver.Driver { return nil }

func (f *fakeDriver) Connect(context.Context) (driver.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return fakeConn{f}, nil
}

// conns returns how many connections are open.
func (f *fakeDriver) conns() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

type fakeConn struct{ f *fakeDriver }

func (c fakeConn) Prepare(query string) (driver.Stmt, error) { return fakeStmt{c.f, query}, nil }

func (c fakeConn) Close() error {
	c.f.mu.Lock()
	defer c.f.mu.Unlock()
	c.f.open--
	return nil
}

func (c fakeConn) Begin() (driver.Tx, error) { return fakeTx(c), c.f.run("begin") }

func (c fakeConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) { return c.Begin() }

type fakeTx struct{ f *fakeDriver }

func (t fakeTx) Commit() error   { return t.f.run("commit") }
func (t fakeTx) Rollback() error { return t.f.run("rollback") }

type fakeStmt struct {
	f     *fakeDriver
	query string
}

func (s fakeStmt) Close() error  { return nil }
func (s fakeStmt) NumInput() int { return -1 }

func (s fakeStmt) Exec([]driver.Value) (driver.Result, error) {
	return driver.RowsAffected(1), s.f.run(s.query)
}

func (s fakeStmt) Query([]driver.Value) (driver.Rows, error) {
	return &fakeRows{}, s.f.run(s.query)
}

// fakeRows is an answer of one row with one column.
type fakeRows struct{ read bool }

func (r *fakeRows) Columns() []string { return []string{"n"} }
func (r *fakeRows) Close() error      { return nil }

func (r *fakeRows) Next(dest []driver.Value) error {
	if r.read {
		return io.EOF
	}
	r.read = true
	dest[0] = int64(0)
	return nil
}

// openFake opens a database on a new fake driver.
func openFake(t *testing.T, d Dialect, fatal func(error)) (*DB, *fakeDriver) {
	t.Helper()
	f := new(fakeDriver)
	write := sql.OpenDB(f)
	write.SetMaxOpenConns(1)
	db, err := Open(t.Context(), Options{Dialect: d, Write: write, Read: sql.OpenDB(f), Fatal: fatal})
	if err != nil {
		t.Fatal(err)
	}
	return db, f
}

// exec returns an operation that executes one statement.
func exec(statement string) func(*Tx) error {
	return func(tx *Tx) error {
		_, err := tx.Exec(statement)
		return err
	}
}
