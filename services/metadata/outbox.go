package metadata

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Outbox says who is told what happens.
type Outbox struct {
	// Sinks are told, each in order. Empty: nothing is written down.
	Sinks []Sink
	// Keep is for how long what everybody was told stays in the list. 0 means a week.
	Keep time.Duration
	// Max is how many events wait for a sink that does not take them; then the oldest
	// are dropped. 0 means 100,000, about 50 MB.
	Max int
}

const (
	sqlAnnounce = `
		INSERT INTO outbox (id, type, at, repo, reference, digest, media_type, actor, address, method, agent, data)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (id) DO NOTHING`
	// Of a manifest that is there.
	sqlAnnounceManifest = `
		INSERT INTO outbox (id, type, at, repo, reference, digest, media_type, actor, address, method, agent)
		SELECT $1, $2, $3, r.name, $4, m.digest, m.media_type, $5, $6, $7, $8
		FROM repositories r JOIN manifests m ON m.repo_id = r.id AND m.digest = $9 WHERE r.id = $10`
	// Of a tag that was removed just now: it pointed to what it was set to last.
	sqlAnnounceUntagged = `
		INSERT INTO outbox (id, type, at, repo, reference, digest, media_type, actor, address, method, agent)
		SELECT $1, $2, $3, r.name, $4, h.digest, COALESCE((SELECT m.media_type FROM manifests m WHERE m.repo_id = r.id AND m.digest = h.digest), ''), $5, $6, $7, $8
		FROM repositories r JOIN tag_history h ON h.repo_id = r.id AND h.name = $4
		WHERE r.id = $9 AND h.digest IS NOT NULL ORDER BY h.number DESC LIMIT 1`
	// Before the first manifest of a repository.
	sqlAnnounceRepo = `
		INSERT INTO outbox (id, type, at, repo, reference, media_type, actor, address, method, agent)
		SELECT $1, $2, $3, r.name, '', '', $4, $5, $6, $7 FROM repositories r
		WHERE r.id = $8 AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repo_id = r.id)`
	sqlAnnounced     = `SELECT id, type, at, repo, reference, digest, media_type, actor, address, method, agent, data FROM outbox WHERE id < $1 ORDER BY id DESC LIMIT $2`
	sqlAnnouncedRepo = `SELECT id, type, at, repo, reference, digest, media_type, actor, address, method, agent, data FROM outbox WHERE repo = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
)

// announces reports whether somebody wants to be told.
func (c *Catalog) announces() bool { return len(c.outbox.current()) > 0 }

// announceRepo announces a repository that is about to get its first manifest.
func (c *Catalog) announceRepo(tx *sqldb.Tx, id int64, a registry.Actor) error {
	if !c.announces() {
		return nil
	}
	now, r := c.now(), requestOf(a)
	return c.announcing(tx, sqlAnnounceRepo, registry.NewAuditID(now), registry.RepositoryCreated, now, cut(a.ID), r.address, r.method, r.agent, id)
}

// announceManifest announces what became of a manifest that is there, by the
// reference that was used.
func (c *Catalog) announceManifest(tx *sqldb.Tx, kind string, id int64, reference string, digest []byte, a registry.Actor) error {
	if !c.announces() || a.ID == TakeoverActor {
		return nil
	}
	now, r := c.now(), requestOf(a)
	return c.announcing(tx, sqlAnnounceManifest, registry.NewAuditID(now), kind, now, reference, cut(a.ID), r.address, r.method, r.agent, digest, id)
}

// announceTag announces a tag that was set, or removed if digest is nil.
func (c *Catalog) announceTag(tx *sqldb.Tx, id int64, t registry.Tag, digest []byte, a registry.Actor) error {
	if digest != nil {
		return c.announceManifest(tx, registry.ImageUpdated, id, string(t), digest, a)
	}
	if !c.announces() || a.ID == TakeoverActor {
		return nil
	}
	now, r := c.now(), requestOf(a)
	return c.announcing(tx, sqlAnnounceUntagged, registry.NewAuditID(now), registry.ImageDeleted, now, string(t), cut(a.ID), r.address, r.method, r.agent, id)
}

func (c *Catalog) announcing(tx *sqldb.Tx, query string, args ...any) error {
	if err := tx.Queue(query, args...); err != nil {
		return fmt.Errorf("announcing a change: %w", err)
	}
	tx.Bracket(func() {}, c.outbox.ring)
	return nil
}

// request is what an announcement says of an HTTP request.
type request struct{ address, method, agent string }

func requestOf(a registry.Actor) request {
	if a.Request == nil {
		return request{}
	}
	return request{cut(a.Request.ClientIP), cut(a.Request.Method), cut(a.Request.UserAgent)}
}

// Announce implements [registry.Announcements].
func (c *Catalog) Announce(ctx context.Context, all []registry.Announcement) error {
	if err := registry.CheckAnnouncements(all); err != nil {
		return err
	}
	if !c.announces() || len(all) == 0 {
		return nil
	}
	statements := make([]sqldb.Statement, len(all))
	for i, e := range all {
		var digest []byte
		if e.Digest != "" {
			var err error
			if digest, err = pack(e.Digest); err != nil {
				return err
			}
		}
		var data any
		if len(e.Data) > 0 {
			b, err := json.Marshal(e.Data)
			if err != nil {
				return registry.ErrParameterInvalid.With("the data of an event is not JSON")
			}
			data = string(b)
		}
		statements[i] = sqldb.Statement{Text: sqlAnnounce, Args: []any{
			e.ID, cut(e.Type), e.At, cut(string(e.Repo)), cut(e.Reference), nullable(digest), cut(e.MediaType), cut(e.Actor), cut(e.Address), cut(e.Method), cut(e.Agent), data,
		}}
	}
	err := c.db.WriteLow(ctx, func(tx *sqldb.Tx) error { return tx.Run(statements...) })
	if err != nil {
		return fmt.Errorf("announcing: %w", err)
	}
	c.outbox.ring()
	return nil
}

// Announced implements [registry.Announcements].
func (c *Catalog) Announced(ctx context.Context, a registry.Actor, q registry.AnnouncementQuery) (registry.List[registry.Announcement], error) {
	var list registry.List[registry.Announcement]
	if err := c.access.allow(a, "", registry.ActAdmin); err != nil {
		return list, err
	}
	if err := q.Check(); err != nil {
		return list, err
	}
	before := "8" // after every id
	if q.Before != "" {
		before = q.Before
	}
	query, args := sqlAnnounced, []any{before, q.Limit + 1}
	if q.Repo != "" {
		query, args = sqlAnnouncedRepo, []any{string(q.Repo), before, q.Limit + 1}
	}
	_, err := c.page(ctx, query, args, func(rows *sqldb.Rows) error {
		e, err := scanAnnouncement(rows)
		if len(list.Items) == q.Limit {
			list.More = true
			return err
		}
		list.Items = append(list.Items, e)
		return err
	})
	if err != nil {
		return registry.List[registry.Announcement]{}, fmt.Errorf("reading what was announced: %w", err)
	}
	return list, nil
}

// scanAnnouncement reads the columns of sqlAnnounced, behind those given.
func scanAnnouncement(rows *sqldb.Rows, before ...any) (registry.Announcement, error) {
	var (
		e      registry.Announcement
		digest []byte
		data   sql.NullString
	)
	err := rows.Scan(append(before, &e.ID, &e.Type, &e.At, &e.Repo, &e.Reference, &digest, &e.MediaType, &e.Actor, &e.Address, &e.Method, &e.Agent, &data)...)
	if err != nil {
		return e, err
	}
	if digest != nil {
		if e.Digest, err = unpack(digest); err != nil {
			return e, err
		}
	}
	if data.Valid {
		err = json.Unmarshal([]byte(data.String), &e.Data)
	}
	return e, err
}
