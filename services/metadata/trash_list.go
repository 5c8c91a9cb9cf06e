package metadata

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-registry/berth/registry"
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
	// A tag whose last change was its removal, and whose manifest is there. No index
	// finds them: a migration that makes one would take longer the larger the store is.
	sqlListUntagged = `
		SELECT h.repo_id, h.name, r.name, p.digest, h.at, h.actor, m.size
		FROM tag_history h JOIN repositories r ON r.id = h.repo_id
		JOIN tag_history p ON p.repo_id = h.repo_id AND p.name = h.name AND p.number = h.number - 1
		JOIN manifests m ON m.repo_id = h.repo_id AND m.digest = p.digest
		WHERE h.digest IS NULL AND h.at > $3
		AND NOT EXISTS (SELECT 1 FROM tag_history n WHERE n.repo_id = h.repo_id AND n.name = h.name AND n.number > h.number)
		AND `
	sqlListUntaggedAll = sqlListUntagged + `(h.repo_id, h.name) > ($1, $2) ORDER BY h.repo_id, h.name LIMIT $4`
	sqlListUntaggedOf  = sqlListUntagged + `h.repo_id = $1 AND h.name > $2 ORDER BY h.name LIMIT $4`
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

// listUntagged adds deleted tags behind a place, until the list is full.
func (c *Catalog) listUntagged(ctx context.Context, repo registry.Name, id int64, t registry.Tag, limit int, list *registry.List[registry.Deleted], add func(registry.Deleted)) error {
	query := sqlListUntaggedAll
	if repo != "" {
		query = sqlListUntaggedOf
		own, err := c.readRepoID(ctx, repo)
		if err != nil {
			return notUnknown(err)
		}
		id = own
	}
	now, window, longest := c.now(), map[registry.Pool]int64{}, int64(0)
	for _, p := range c.pools() {
		window[p] = c.undoable(p) - now
		longest = max(longest, window[p])
	}
	for n := limit + 1; n > limit && !list.More; {
		rows, err := c.db.Query(ctx, query, id, string(t), now-longest, limit+1)
		if err != nil {
			return fmt.Errorf("listing deleted tags: %w", err)
		}
		n = 0
		for rows.Next() {
			var d registry.Deleted
			var digest []byte
			if err := rows.Scan(&id, &t, &d.Repo, &digest, &d.At, &d.Actor, &d.Size); err != nil {
				rows.Close()
				return fmt.Errorf("listing deleted tags: %w", err)
			}
			n++
			if d.Digest, err = unpack(digest); err != nil {
				rows.Close()
				return err
			}
			d.Tag, d.Cursor = t, untaggedCursor(id, t)
			if d.Until = d.At + window[c.poolOf(d.Repo)]; d.Until > now {
				add(d)
			}
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return fmt.Errorf("listing deleted tags: %w", err)
		}
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
