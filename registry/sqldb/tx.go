package sqldb

import (
	"context"
	"database/sql"
	"fmt"
	"runtime/debug"
)

// Tx is what an operation sees of its transaction. It is valid until the
// operation's function returns.
type Tx struct {
	ctx      context.Context
	s        session
	rows     []*Rows
	brackets []bracket
	groups   *groups // nil: nothing is grouped
}

// groups are statements that wait to be queued, those with the same text together.
type groups struct {
	texts []string // in the order in which they came
	by    map[string][]Statement
}

// session runs statements in the current transaction.
type session interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) Row
}

// pipe is a session that can send several statements at once.
type pipe interface {
	session
	lock(all []Lock, patient bool) error
	send(ctx context.Context, all []Statement) error
	queue(all ...Statement)
}

type bracket struct{ begin, end func() }

// Lock says what the operation relies on, before its first statement. Until it
// ends no other operation runs that names the same, unless both share it. An
// operation that has not called Lock runs alone: correct, and slow for others.
// On a database with one writer all of them do, and Lock does nothing.
//
// Two operations that take the same locks must name them in the same order.
func (tx *Tx) Lock(all ...Lock) error {
	if p, ok := tx.s.(pipe); ok {
		return p.lock(append([]Lock{{Name: everything, Shared: true}}, all...), false)
	}
	return nil
}

// LockAll lets the operation run alone, however long it or those before it take.
func (tx *Tx) LockAll() error {
	if p, ok := tx.s.(pipe); ok {
		return p.lock([]Lock{{Name: everything}}, true)
	}
	return nil
}

// Run runs statements one after another, in one round trip.
func (tx *Tx) Run(all ...Statement) error {
	tx.ungroup()
	if p, ok := tx.s.(pipe); ok {
		return p.send(tx.ctx, all)
	}
	for _, s := range all {
		if err := tx.runOne(s); err != nil {
			return err
		}
	}
	return nil
}

func (tx *Tx) runOne(s Statement) error {
	if s.Unless != nil && *s.Unless {
		return nil
	}
	if s.Row == nil {
		n, err := tx.Exec(s.Text, s.Args...)
		if err == nil && s.Changed != nil {
			s.Changed(n)
		}
		return err
	}
	rows, err := tx.Query(s.Text, s.Args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := s.Row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Queue runs a statement whose answer is of no interest: at once, or together
// with the next one, or with the end of the transaction. An error may come from
// whatever the operation does next, or from [DB.Write].
func (tx *Tx) Queue(query string, args ...any) error {
	p, ok := tx.s.(pipe)
	if !ok {
		_, err := tx.Exec(query, args...)
		return err
	}
	s := Statement{Text: query, Args: args}
	if g := tx.groups; g != nil {
		if g.by[query] == nil {
			g.texts = append(g.texts, query)
		}
		g.by[query] = append(g.by[query], s)
		return nil
	}
	p.queue(s)
	return nil
}

// Group calls fn, of whose queued statements those with the same text may run
// together, which spares a database work: those of the text that came first, then
// those of the next. What fn asks for at once sees all that it has queued before.
func (tx *Tx) Group(fn func() error) error {
	if _, ok := tx.s.(pipe); !ok || tx.groups != nil {
		return fn()
	}
	tx.groups = &groups{by: make(map[string][]Statement)}
	err := fn()
	tx.ungroup()
	tx.groups = nil
	return err
}

// ungroup queues what is grouped.
func (tx *Tx) ungroup() {
	if tx.groups == nil {
		return
	}
	for _, text := range tx.groups.texts {
		tx.s.(pipe).queue(tx.groups.by[text]...)
	}
	tx.groups.texts = nil
	clear(tx.groups.by)
}

// Last runs the statements that end the operation: where they can be sent
// together with the end of the transaction, their rows arrive after the
// operation's function has returned. [DB.Write] may succeed without them, if the
// connection broke: an operation that needs them must be able to read them again.
func (tx *Tx) Last(all ...Statement) error {
	tx.ungroup()
	if p, ok := tx.s.(pipe); ok {
		p.queue(all...)
		return nil
	}
	return tx.Run(all...)
}

// Exec runs a statement and returns how many rows it changed.
func (tx *Tx) Exec(query string, args ...any) (int64, error) {
	tx.ungroup()
	r, err := tx.s.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// QueryRow runs a query that returns at most one row. Scan must be called.
func (tx *Tx) QueryRow(query string, args ...any) Row {
	tx.ungroup()
	return tx.s.QueryRowContext(tx.ctx, query, args...)
}

// Query runs a query. Rows that the operation leaves open are closed after it.
func (tx *Tx) Query(query string, args ...any) (*Rows, error) {
	tx.ungroup()
	r, err := tx.s.QueryContext(tx.ctx, query, args...) //nolint:rowserrcheck // the caller reads them
	if err != nil {
		return nil, err
	}
	rows := &Rows{Rows: r}
	tx.rows = append(tx.rows, rows)
	return rows, nil
}

// Bracket has begin called just before the transaction is committed, and end
// after it was (or could not be), but before anyone is told. A cache that
// stops serving and filling what the operation changes between the two never
// shows a value that is older than one somebody has seen. Neither is called if
// the operation fails.
func (tx *Tx) Bracket(begin, end func()) {
	tx.brackets = append(tx.brackets, bracket{begin, end})
}

// PanicError is the error of an operation that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns what it panicked with, and where.
func (e *PanicError) Error() string {
	return fmt.Sprintf("panic in a database operation: %v\n%s", e.Value, e.Stack)
}

// apply runs fn on tx. A panic becomes an error, so that the operations that
// share the transaction live on.
func apply(tx *Tx, fn func(*Tx) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
		for _, r := range tx.rows {
			r.Close()
		}
	}()
	return fn(tx)
}
