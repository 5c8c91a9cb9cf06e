package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry/stall"
)

// maxBatch is how many operations share a transaction at most. It bounds how
// long the first of them waits for the others.
const maxBatch = 256

// collector is the collecting writer: a goroutine that owns the only connection
// that writes.
type collector struct {
	dialect *Dialect
	meters  atomic.Pointer[meters]
	fatal   func(error)
	conn    *conn
	wake    chan struct{} // holds an element if the queues may have changed
	done    chan struct{} // closed when the goroutine has ended
	calls   stall.Watch   // of the transaction under way

	mu     sync.Mutex // guards the fields below
	queue  []*operation
	low    []*operation
	closed bool
	failed error // why nothing may be written any more
}

// operation is one call of [DB.Write].
type operation struct {
	fn  func(*Tx) error
	tx  Tx
	err error // valid when done is closed

	done chan struct{}

	mu        sync.Mutex // held while fn runs; guards abandoned
	abandoned bool       // its caller has left before it ran: don't run it
}

func newCollector(ctx context.Context, db *sql.DB, d *Dialect, fatal func(error)) (*collector, error) {
	cn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	c := &collector{
		dialect: d,
		fatal:   fatal,
		conn:    &conn{Conn: cn, stmts: map[string]*sql.Stmt{}},
		wake:    make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
	c.observe(newMeters(nil))
	go c.run()
	return c, nil
}

func (c *collector) write(ctx context.Context, low bool, fn func(*Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	op := &operation{fn: fn, done: make(chan struct{})}
	if err := c.add(op, low); err != nil {
		return err
	}
	select {
	case <-op.done:
		return op.err
	case <-ctx.Done():
	}
	// Waits for fn if it runs just now, but never for the disk.
	op.mu.Lock()
	defer op.mu.Unlock()
	op.abandoned = true
	select {
	case <-op.done:
		return op.err
	default:
		return ctx.Err()
	}
}

func (c *collector) add(op *operation, low bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.failed != nil:
		return fmt.Errorf("writing is over since an earlier failure: %w", c.failed)
	case c.closed:
		return ErrClosed
	case low:
		c.low = append(c.low, op)
	default:
		c.queue = append(c.queue, op)
	}
	c.signal()
	return nil
}

func (c *collector) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// run takes turns between the queues: a batch of the first, one operation of
// the second. So neither starves, and an operation of the first queue that
// comes while one of the second runs is in the very next transaction.
func (c *collector) run() {
	defer close(c.done)
	for {
		batch, one, closed := c.take()
		if batch == nil && one == nil {
			if closed {
				return
			}
			<-c.wake
			continue
		}
		if batch != nil {
			c.transact(batch)
		}
		if one == nil {
			one = c.takeLow()
		}
		if one != nil {
			c.transact([]*operation{one})
		}
	}
}

func (c *collector) take() (batch []*operation, low *operation, closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := min(len(c.queue), maxBatch); n > 0 {
		batch, c.queue = c.queue[:n:n], c.queue[n:]
		if len(c.queue) == 0 {
			c.queue = nil // lets go of the operations behind it
		}
		return batch, nil, c.closed
	}
	return nil, c.popLow(), c.closed
}

func (c *collector) takeLow() *operation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.popLow()
}

func (c *collector) popLow() *operation {
	if len(c.low) == 0 {
		return nil
	}
	op := c.low[0]
	c.low = c.low[1:]
	return op
}

// transact runs a batch in one transaction and answers all of it.
func (c *collector) transact(batch []*operation) {
	call := c.calls.Begin()
	defer c.calls.End(call)
	ran, err := c.apply(batch)
	if err == nil && len(ran) > 0 {
		err = c.commit(ran)
	} else {
		c.rollback()
	}
	if err != nil {
		for _, op := range ran {
			op.err = err
		}
	}
	for _, op := range batch {
		c.stopIfFatal(op.err)
	}
	for _, op := range batch {
		close(op.done)
	}
	if err == nil && len(ran) > 0 && c.dialect.AfterCommit != nil {
		c.stopIfFatal(c.dialect.AfterCommit(func(text string) Row {
			return c.conn.QueryRowContext(context.Background(), text)
		}))
	}
}

// apply begins a transaction and runs the batch in it. It returns the
// operations that succeeded, or with an error those that would have.
func (c *collector) apply(batch []*operation) (ran []*operation, err error) {
	if err := c.failure(); err != nil {
		return batch, err
	}
	if err := c.conn.exec(c.dialect.Begin); err != nil {
		return batch, fmt.Errorf("beginning a transaction: %w", err)
	}
	for i, op := range batch {
		alone := len(batch) == 1
		var lost error
		op.err, lost = c.applyOne(op, alone)
		if lost != nil {
			return append(ran, batch[i+1:]...), lost
		}
		if op.err == nil {
			ran = append(ran, op)
		}
	}
	return ran, nil
}

// applyOne runs op in a savepoint, unless it is alone in its transaction. lost
// is why the whole transaction can't go on.
func (c *collector) applyOne(op *operation, alone bool) (err, lost error) {
	op.mu.Lock()
	defer op.mu.Unlock()
	if op.abandoned {
		return context.Canceled, nil
	}
	if !alone {
		if err := c.conn.exec("SAVEPOINT op"); err != nil {
			err = fmt.Errorf("setting a savepoint: %w", err)
			return err, err
		}
	}
	op.tx = Tx{ctx: context.Background(), s: c.conn}
	err = apply(&op.tx, op.fn)
	if alone {
		return err, nil
	}
	if err != nil {
		// Some errors, a full disk among them, end the whole transaction.
		if e := c.conn.exec("ROLLBACK TO op"); e != nil {
			return err, fmt.Errorf("another operation of the transaction ended it: %w", err)
		}
	}
	if e := c.conn.exec("RELEASE op"); e != nil {
		e = fmt.Errorf("releasing a savepoint: %w", e)
		return errors.Join(err, e), e
	}
	return err, nil
}

func (c *collector) commit(ran []*operation) error {
	for _, op := range ran {
		for _, b := range op.tx.brackets {
			b.begin()
		}
	}
	began := time.Now()
	err := c.conn.exec("COMMIT")
	m := c.meters.Load()
	m.commit.Since(began)
	m.batch.ObserveSize(len(ran))
	if err != nil {
		err = fmt.Errorf("committing a transaction: %w", err)
		c.rollback()
	}
	for _, op := range ran {
		for _, b := range op.tx.brackets {
			b.end()
		}
	}
	return err
}

// rollback ends a transaction, if there still is one.
func (c *collector) rollback() {
	c.conn.exec("ROLLBACK") // fails if the database has done it by itself
}

// stopIfFatal refuses all writes from now on if err is fatal.
func (c *collector) stopIfFatal(err error) {
	if err == nil || !c.dialect.fatal(err) {
		return
	}
	c.mu.Lock()
	first := c.failed == nil
	if first {
		c.failed = err
	}
	c.mu.Unlock()
	if first {
		c.fatal(err)
	}
}

func (c *collector) oldest() time.Duration { return c.calls.Oldest() }

func (c *collector) observe(m *meters) { c.meters.Store(m) }

func (c *collector) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *collector) close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.signal()
	<-c.done
	return c.conn.close()
}

// conn is a connection with its prepared statements. It is for one goroutine.
type conn struct {
	*sql.Conn
	stmts map[string]*sql.Stmt
}

func (c *conn) prepare(query string) (*sql.Stmt, error) {
	if st := c.stmts[query]; st != nil {
		return st, nil
	}
	st, err := c.Conn.PrepareContext(context.Background(), query)
	if err == nil {
		c.stmts[query] = st
	}
	return st, err
}

func (c *conn) exec(query string) error {
	_, err := c.ExecContext(context.Background(), query)
	return err
}

// ExecContext runs a statement, prepared.
func (c *conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	st, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.ExecContext(ctx, args...)
}

// QueryContext runs a query, prepared.
func (c *conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	st, err := c.prepare(query)
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, args...)
}

// QueryRowContext runs a query for one row, prepared.
func (c *conn) QueryRowContext(ctx context.Context, query string, args ...any) Row {
	st, err := c.prepare(query)
	if err != nil {
		return Row{err: err}
	}
	return Row{row: st.QueryRowContext(ctx, args...)}
}

func (c *conn) close() error {
	for _, st := range c.stmts {
		st.Close()
	}
	return c.Conn.Close()
}
