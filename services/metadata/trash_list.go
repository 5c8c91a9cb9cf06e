package metadata

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlListGone   = `SELECT id, name, deleted, until, actor FROM deleted_repositories WHERE id > $1 AND until > $2 ORDER BY id LIMIT $3`
	sqlListGoneOf = `
		SELECT id, name, deleted, until, actor FROM deleted_repositories WHERE name = $4 AND id > $1 AND until > $2 ORDER BY id LIMIT $3`
	sqlListTrash = `
		SELECT t.repo_id, t.digest, r.name, t.tags, t.deleted, t.until, t.actor, LENGTH(t.payload)
		FROM trash t JOIN repositories r ON r.id = t.repo_id
		WHERE (t.repo_id, t.digest) > ($1, $2) AND t.until > $3 ORDER BY t.repo_id, t.digest LIMIT $4`
	sqlListTrashOf = `
		SELECT t.repo_id, t.digest, r.name, t.tags, t.deleted, t.until, t.actor, LENGTH(t.payload)
		FROM trash t JOIN repositories r ON r.id = t.repo_id
		WHERE t.repo_id = $1 AND t.digest > $2 AND t.until > $3 ORDER BY t.digest LIMIT $4`
	sqlListHistory = `
		SELECT repo_id, name, number, at, actor, digest FROM tag_history
		WHERE (repo_id, name, number) > ($1, $2, $3) ORDER BY repo_id, name, number LIMIT $4`
	sqlUntagged = `
		SELECT r.name, m.size FROM repositories r JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 WHERE r.id = $1`
)

// Cursors of a list of what was deleted: first those of repositories, then those
// of manifests, then those of tags.
func goneCursor(id int64) registry.Cursor {
	return registry.Cursor("r" + strconv.FormatInt(id, 10))
}

func trashCursor(id int64, digest []byte) registry.Cursor {
	return registry.Cursor("m" + strconv.FormatInt(id, 10) + "." + hex.EncodeToString(digest))
}

func untaggedCursor(id int64, t registry.Tag) registry.Cursor {
	return registry.Cursor("t" + strconv.FormatInt(id, 10) + "." + hex.EncodeToString([]byte(t)))
}

// parseCursor splits "letter number [. digest]". The zero cursor is before all.
func parseCursor(c registry.Cursor) (kind byte, id int64, digest []byte, err error) {
	if c == "" {
		return 0, 0, noDigest, nil
	}
	number, rest, _ := strings.Cut(string(c[1:]), ".")
	if id, err = strconv.ParseInt(number, 10, 64); err == nil {
		digest, err = hex.DecodeString(rest)
	}
	if err != nil {
		return 0, 0, nil, registry.ErrPageInvalid.With("no such cursor")
	}
	return c[0], id, digest, nil
}

// Deleted lists what can be restored in repo, or anywhere.
func (c *Catalog) Deleted(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Cursor]) (registry.List[registry.Deleted], error) {
	none := registry.List[registry.Deleted]{}
	if repo != "" {
		if err := c.access.allow(a, repo, registry.ActRead); err != nil {
			return none, err
		}
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	kind, id, digest, err := parseCursor(p.After)
	if err != nil {
		return none, err
	}
	var list registry.List[registry.Deleted]
	add := func(d registry.Deleted) {
		switch {
		case c.access.allow(a, d.Repo, registry.ActRead) != nil:
		case len(list.Items) == limit:
			list.More = true
		default:
			list.Items = append(list.Items, d)
		}
	}
	if kind != 'm' && kind != 't' {
		if err := c.listGone(ctx, repo, id, limit, &list, add); err != nil || list.More {
			return list, err
		}
		id, digest = 0, noDigest
	}
	if kind != 't' {
		if err := c.listTrash(ctx, repo, id, digest, limit, &list, add); err != nil || list.More {
			return list, err
		}
		id, digest = 0, nil
	}
	return list, c.listUntagged(ctx, repo, id, registry.Tag(digest), limit, &list, add)
}

// listGone adds deleted repositories behind an identity, until the list is full.
func (c *Catalog) listGone(ctx context.Context, repo registry.Name, id int64, limit int, list *registry.List[registry.Deleted], add func(registry.Deleted)) error {
	for n := limit + 1; n > limit && !list.More; {
		query, args := sqlListGone, []any{id, c.now(), limit + 1}
		if repo != "" {
			query, args = sqlListGoneOf, append(args, string(repo))
		}
		rows, err := c.db.Query(ctx, query, args...)
		if err != nil {
			return fmt.Errorf("listing deleted repositories: %w", err)
		}
		n = 0
		for rows.Next() {
			var d registry.Deleted
			if err := rows.Scan(&id, &d.Repo, &d.At, &d.Until, &d.Actor); err != nil {
				rows.Close()
				return fmt.Errorf("listing deleted repositories: %w", err)
			}
			n++
			d.Cursor = goneCursor(id)
			add(d)
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return fmt.Errorf("listing deleted repositories: %w", err)
		}
	}
	return nil
}

// listTrash adds deleted manifests behind a place, until the list is full.
func (c *Catalog) listTrash(ctx context.Context, repo registry.Name, id int64, digest []byte, limit int, list *registry.List[registry.Deleted], add func(registry.Deleted)) error {
	query := sqlListTrash
	if repo != "" {
		query = sqlListTrashOf
		own, err := c.readRepoID(ctx, repo)
		if err != nil {
			return notUnknown(err)
		}
		id = own
	}
	for n := limit + 1; n > limit && !list.More; {
		rows, err := c.db.Query(ctx, query, id, digest, c.now(), limit+1)
		if err != nil {
			return fmt.Errorf("listing deleted manifests: %w", err)
		}
		n = 0
		for rows.Next() {
			var d registry.Deleted
			var tags string
			if err := rows.Scan(&id, &digest, &d.Repo, &tags, &d.At, &d.Until, &d.Actor, &d.Size); err != nil {
				rows.Close()
				return fmt.Errorf("listing deleted manifests: %w", err)
			}
			n++
			if d.Digest, err = unpack(digest); err != nil {
				rows.Close()
				return err
			}
			for t := range strings.SplitSeq(tags, "\n") {
				if t != "" {
					d.Tags = append(d.Tags, registry.Tag(t))
				}
			}
			d.Cursor = trashCursor(id, digest)
			add(d)
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return fmt.Errorf("listing deleted manifests: %w", err)
		}
	}
	return nil
}

// changedTag is an entry of a tag's history.
type changedTag struct {
	repo   int64
	name   registry.Tag
	number int64
	at     int64
	actor  string
	digest []byte // nil: the tag was removed
}

func scanChangedTag(rows *sqldb.Rows, x *changedTag) error {
	return rows.Scan(&x.repo, &x.name, &x.number, &x.at, &x.actor, &x.digest)
}

// listUntagged adds deleted tags behind a place whose manifests are there, until the list
// is full. It reads all that has ever been done to tags, a page at a time: an index of what
// was removed would be made when the store is opened, which must not take longer the
// larger it is.
func (c *Catalog) listUntagged(ctx context.Context, repo registry.Name, id int64, t registry.Tag, limit int, list *registry.List[registry.Deleted], add func(registry.Deleted)) error {
	if repo != "" {
		own, err := c.readRepoID(ctx, repo)
		if err != nil {
			return notUnknown(err)
		}
		id = own
	}
	u := untagged{c: c, now: c.now(), window: make(map[registry.Pool]int64), add: add}
	for _, p := range c.pools() {
		u.window[p] = c.undoable(p) - u.now
		u.longest = max(u.longest, u.window[p])
	}
	at := changedTag{repo: id, name: t}
	if t != "" {
		at.number = math.MaxInt64 // behind all that was done to it
	}
	var before changedTag // what was done to the tag before at
	for !list.More {
		page, err := readPage(ctx, c.db, sqlListHistory, []any{at.repo, string(at.name), at.number, historyPage}, scanChangedTag)
		if err != nil {
			return fmt.Errorf("reading the history of tags: %w", err)
		}
		for _, x := range page {
			if x.repo != at.repo || x.name != at.name {
				if err := u.end(ctx, before, at); err != nil || list.More {
					return err
				}
				at = changedTag{}
			}
			if repo != "" && x.repo != id {
				return nil
			}
			before, at = at, x
		}
		if len(page) < historyPage {
			return u.end(ctx, before, at)
		}
	}
	return nil
}

// historyPage is how many entries of the history of tags are read at a time.
const historyPage = 1000

// untagged finds deleted tags.
type untagged struct {
	c       *Catalog
	now     int64
	window  map[registry.Pool]int64 // for how long a delete can be undone, in microseconds
	longest int64
	add     func(registry.Deleted)
}

// end adds a tag by the last two entries of its history, if it was deleted and can be
// brought back.
func (u *untagged) end(ctx context.Context, before, last changedTag) error {
	if last.digest != nil || before.digest == nil || last.at <= u.now-u.longest {
		return nil
	}
	d := registry.Deleted{Tag: last.name, Actor: last.actor, At: last.at, Cursor: untaggedCursor(last.repo, last.name)}
	err := u.c.db.QueryRow(ctx, sqlUntagged, last.repo, before.digest).Scan(&d.Repo, &d.Size)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		d.Digest, err = unpack(before.digest)
	}
	if err != nil {
		return fmt.Errorf("reading what a deleted tag pointed to: %w", err)
	}
	if d.Until = d.At + u.window[u.c.poolOf(d.Repo)]; d.Until > u.now {
		u.add(d)
	}
	return nil
}

// notUnknown returns nil for [registry.ErrNameUnknown]: of a repository that does
// not exist there is nothing to list.
func notUnknown(err error) error {
	if registry.AsError(err).Is(registry.ErrNameUnknown) {
		return nil
	}
	return err
}
