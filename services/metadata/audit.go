package metadata

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlAudit        = `SELECT id, at, actor, source, action, object, status, result, request FROM audit WHERE id >= $1 AND id < $2 ORDER BY id DESC LIMIT $3`
	sqlAuditOf      = `SELECT id, at, actor, source, action, object, status, result, request FROM audit WHERE actor = $1 AND id >= $2 AND id < $3 ORDER BY id DESC LIMIT $4`
	sqlExpireAudit  = `DELETE FROM audit WHERE id < $1 AND id <= (SELECT MAX(id) FROM (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2) oldest)`
	auditColumns    = 9
	auditRows       = 16 // in one statement
	auditPage       = 500
	expireAuditTime = time.Hour
)

// sqlRecordAudit adds n events.
func sqlRecordAudit(n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO audit (id, at, actor, source, action, object, status, result, request) VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("(" + sqldb.Placeholders(1+auditColumns*i, auditColumns) + ")")
	}
	b.WriteString(" ON CONFLICT (id) DO NOTHING")
	return b.String()
}

// RecordAudit remembers events.
func (c *Catalog) RecordAudit(ctx context.Context, events []registry.AuditEvent) error {
	if len(events) > registry.MaxAuditEvents {
		return registry.ErrTooLarge.With("at most %d events at a time", registry.MaxAuditEvents)
	}
	for _, e := range events {
		if !registry.ValidAuditID(e.ID) {
			return registry.ErrParameterInvalid.With("an event has no valid id")
		}
	}
	if len(events) == 0 {
		return nil
	}
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		for some := range slices.Chunk(events, auditRows) {
			err := sqldb.Padded(some, func(part []registry.AuditEvent) error {
				args := make([]any, 0, auditColumns*len(part))
				for _, e := range part {
					args = append(args, auditRow(e)...)
				}
				return tx.Queue(sqlRecordAudit(len(part)), args...)
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording audit events: %w", err)
	}
	return nil
}

// auditRow returns the columns of an event.
func auditRow(e registry.AuditEvent) []any {
	return []any{e.ID, e.At, cut(e.Actor), cut(e.Source), cut(e.Action), cut(e.Object), int64(e.Status), cut(e.Result), cut(e.RequestID)}
}

// auditMove adds the event of a tag that points to something else than before, in the
// transaction that does it: who asked for the change can't say what the tag was.
func (c *Catalog) auditMove(tx *sqldb.Tx, a registry.Actor, repo registry.Name, t registry.Tag, from, to []byte) error {
	old, err := unpack(from)
	if err != nil {
		return err
	}
	d, err := unpack(to)
	if err != nil {
		return err
	}
	now := c.now()
	e := registry.AuditEvent{
		ID: registry.NewAuditID(now), At: now, Actor: a.ID, Source: requestOf(a).address, Action: registry.TagMoved,
		Object: registry.TagMove(repo, t, old, d), Result: "ok",
	}
	if err := tx.Queue(sqlRecordAudit(1), auditRow(e)...); err != nil {
		return fmt.Errorf("recording that a tag moved: %w", err)
	}
	return nil
}

// cut returns a text that a database takes: of bounded length, in UTF-8, without NUL.
func cut(s string) string {
	if len(s) > registry.MaxAuditText {
		s = s[:registry.MaxAuditText]
	}
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(strings.ToValidUTF8(s, "\ufffd"), "\x00", "\ufffd")
	}
	return s
}

// AuditLog lists events.
func (c *Catalog) AuditLog(ctx context.Context, a registry.Actor, q registry.AuditQuery) (registry.List[registry.AuditEvent], error) {
	var list registry.List[registry.AuditEvent]
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return list, err
	}
	if err := q.Check(); err != nil {
		return list, err
	}
	from, before := registry.AuditIDAt(q.Since), "8" // after every id
	if q.Until > 0 {
		before = registry.AuditIDAt(q.Until)
	}
	if q.Before != "" && q.Before < before {
		before = q.Before
	}
	for {
		query, args := sqlAudit, []any{from, before, auditPage}
		if q.Actor != "" {
			query, args = sqlAuditOf, []any{q.Actor, from, before, auditPage}
		}
		n, err := c.page(ctx, query, args, func(rows *sqldb.Rows) error {
			var e registry.AuditEvent
			err := rows.Scan(&e.ID, &e.At, &e.Actor, &e.Source, &e.Action, &e.Object, &e.Status, &e.Result, &e.RequestID)
			before = e.ID
			switch {
			case err != nil || !q.Matches(e):
			case len(list.Items) < q.Limit:
				list.Items = append(list.Items, e)
			default:
				list.More = true
			}
			return err
		})
		if err != nil {
			return registry.List[registry.AuditEvent]{}, fmt.Errorf("reading the audit log: %w", err)
		}
		if list.More || n < auditPage {
			return list, nil
		}
	}
}

// expireAudit drops the events that nobody wants to keep, until ctx ends.
func (c *Catalog) expireAudit(ctx context.Context) {
	for more := true; more; more = c.sleep(ctx, expireAuditTime) {
		for ctx.Err() == nil && c.auditKeep.Load() > 0 {
			n, err := c.dropAudit(ctx, c.opt.Now().Add(-time.Duration(c.auditKeep.Load())).UnixMicro())
			if err != nil && ctx.Err() == nil {
				c.log.Warn("dropping old audit events", "error", err)
			}
			if err != nil || n < auditPage {
				break
			}
		}
	}
}

// dropAudit drops some events before a time, and returns how many.
func (c *Catalog) dropAudit(ctx context.Context, before int64) (n int64, err error) {
	err = c.db.WriteLow(ctx, func(tx *sqldb.Tx) error {
		n, err = tx.Exec(sqlExpireAudit, registry.AuditIDAt(before), auditPage)
		return err
	})
	return n, err
}
