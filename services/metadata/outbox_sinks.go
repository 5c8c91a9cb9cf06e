package metadata

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlSinks         = `SELECT name, tx, seq, at, delivered, dropped, failures, error FROM outbox_sinks ORDER BY name LIMIT $1`
	sqlOutboxBound   = `SELECT tx, seq FROM outbox ORDER BY tx DESC, seq DESC LIMIT 1 OFFSET $1`
	sqlOutboxWaiting = `SELECT COUNT(*) FROM (SELECT 1 FROM outbox WHERE (tx, seq) > ($1, $2) ORDER BY tx, seq LIMIT $3) few`
	// The oldest rows, as long as they are old or before the bound.
	sqlOutboxOldest = `SELECT tx, seq, at FROM outbox ORDER BY tx, seq LIMIT $1`
	sqlTrimOutbox   = `DELETE FROM outbox WHERE (tx, seq) <= ($1, $2)`
)

// outboxTrim is how often what nobody needs is removed.
const outboxTrim = time.Minute

// trim bounds the list, until ctx ends.
func (o *outbox) trim(ctx context.Context) {
	for o.c.sleep(ctx, outboxTrim) {
		if err := o.trimOnce(ctx); err != nil && ctx.Err() == nil {
			o.c.log.Warn("trimming the list of events", "error", err)
		}
	}
}

// trimOnce removes what is old and was told to all, and what is too much.
func (o *outbox) trimOnce(ctx context.Context) error {
	bound, err := o.boundary(ctx, sqlOutboxBound, o.c.opt.Outbox.Max)
	if err != nil {
		return err
	}
	last, err := o.c.position(ctx, sqlOutboxLast)
	if err != nil {
		return err
	}
	slowest := last
	for _, s := range o.current() {
		st, err := o.load(ctx, s.Name())
		if err != nil {
			return err
		}
		if st.at.Before(slowest) {
			slowest = st.at
		}
	}
	before := o.c.now() - o.c.opt.Outbox.Keep.Microseconds()
	for ctx.Err() == nil {
		var to Position
		n, err := o.c.page(ctx, sqlOutboxOldest, []any{1000}, func(rows *sqldb.Rows) error {
			var p Position
			var at int64
			err := rows.Scan(&p.Tx, &p.Seq, &at)
			if p.Before(last) && !slowest.Before(p) && (!bound.Before(p) || at < before) {
				to = p
			}
			return err
		})
		if err != nil || to == (Position{}) {
			return err
		}
		err = o.c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(); err != nil {
				return err
			}
			return tx.Queue(sqlTrimOutbox, to.Tx, to.Seq)
		})
		if err != nil || n < 1000 {
			return err
		}
	}
	return ctx.Err()
}

func (o *outbox) boundary(ctx context.Context, query string, n int) (p Position, err error) {
	err = o.c.db.QueryRow(ctx, query, n).Scan(&p.Tx, &p.Seq)
	if isNoRows(err) {
		return Position{}, nil
	}
	return p, err
}

// overtake moves a sink on that was away for too long.
func (o *outbox) overtake(ctx context.Context, st *sinkState) error {
	bound, err := o.boundary(ctx, sqlOutboxBound, o.c.opt.Outbox.Max)
	if err != nil || !st.at.Before(bound) {
		return err
	}
	var all, left int64
	if err := o.c.db.QueryRow(ctx, sqlOutboxWaiting, st.at.Tx, st.at.Seq, 10*maxWaiting).Scan(&all); err != nil {
		return err
	}
	if err := o.c.db.QueryRow(ctx, sqlOutboxWaiting, bound.Tx, bound.Seq, 10*maxWaiting).Scan(&left); err != nil {
		return err
	}
	st.at = bound
	st.Dropped += all - left
	o.dropped.Add(all - left)
	o.c.log.Error("events are dropped: too many wait for their receiver", "sink", st.Name, "dropped", all-left)
	return o.save(ctx, *st)
}

// maxWaiting is how far the events are counted that wait.
const maxWaiting = 100_000

// Sinks implements [registry.Announcements].
func (c *Catalog) Sinks(ctx context.Context, a registry.Actor) ([]registry.SinkStatus, error) {
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return nil, err
	}
	var all []sinkState
	_, err := c.page(ctx, sqlSinks, []any{1000}, func(rows *sqldb.Rows) error {
		var s sinkState
		err := rows.Scan(&s.Name, &s.at.Tx, &s.at.Seq, &s.At, &s.Delivered, &s.Dropped, &s.Failures, &s.Error)
		all = append(all, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading who is told: %w", err)
	}
	list := make([]registry.SinkStatus, len(all))
	for i, s := range all {
		if err := c.db.QueryRow(ctx, sqlOutboxWaiting, s.at.Tx, s.at.Seq, maxWaiting).Scan(&s.Waiting); err != nil {
			return nil, fmt.Errorf("counting what waits: %w", err)
		}
		list[i] = s.SinkStatus
	}
	return list, nil
}

// SinkName is the name of a sink: its kind and address without what may be secret.
func SinkName(kind, address, channel string) string {
	if i := strings.IndexAny(address, "?#"); i >= 0 {
		address = address[:i]
	}
	if scheme, rest, ok := strings.Cut(address, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		host = host[strings.LastIndexByte(host, '@')+1:]
		address = scheme + "://" + host + "/" + path
	}
	return strings.TrimSpace(kind + " " + address + " " + channel)
}
