package metadata

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// replay applies a segment. What the snapshot has already is applied once more,
// which changes nothing: records say what is, not what differs.
func (r *rebuild) replay(n objectName, segment []byte) error {
	gz, err := gzip.NewReader(bytes.NewReader(segment))
	if err != nil {
		return err
	}
	dec := json.NewDecoder(gz)
	var h segmentHeader
	if err := dec.Decode(&h); err != nil {
		return err
	}
	if h.Format != exportFormat {
		return fmt.Errorf("format %d is not known to this program", h.Format)
	}
	if r.at.Before(h.From) {
		r.report("I12", "", "", "the journal has a gap before segment %s: what happened there is lost", n)
	}
	return r.db.Write(r.ctx, func(tx *sqldb.Tx) error {
		for {
			var e record
			err := dec.Decode(&e)
			if errors.Is(err, io.EOF) {
				r.at = n.at
				return nil
			}
			if err != nil {
				return err
			}
			if !r.at.Before(e.At) {
				continue
			}
			if err := r.apply(tx, e); err != nil {
				return fmt.Errorf("event %v, %s: %w", e.At, e.Kind, err)
			}
			r.Events++
			if at := time.UnixMicro(e.Time); at.After(r.Last) {
				r.Last = at
			}
		}
	})
}

// apply applies an event.
func (r *rebuild) apply(tx *sqldb.Tx, e record) error {
	digest := []byte(nil)
	if e.Digest != "" {
		d, err := registry.ParseDigest(e.Digest)
		if err != nil {
			return err
		}
		digest = packKnown(d)
	}
	if e.RepoID != 0 && e.Kind != RepositoryDeleted {
		if err := execAll(tx, step{`INSERT INTO repositories (name, id, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, []any{e.Repo, e.RepoID, e.Time}}); err != nil {
			return err
		}
	}
	switch e.Kind {
	case RepositoryMade: // or brought back
		return execAll(tx, step{sqlForgetGone, []any{e.RepoID}})
	case RepositoryDeleted:
		return deleteRepository(tx, e.RepoID)
	case ManifestStored:
		return r.addManifest(tx, e, digest)
	case ManifestDeleted:
		return execAll(tx,
			step{`DELETE FROM tags WHERE repo_id = $1 AND digest = $2`, []any{e.RepoID, digest}},
			step{sqlDeleteReferences, []any{e.RepoID, digest}},
			step{sqlDeleteManifest, []any{e.RepoID, digest}})
	case TagChanged:
		return r.changeTag(tx, e, digest)
	case BlobLinked:
		return r.addLink(tx, e, digest)
	case BlobUnlinked:
		return execAll(tx, step{sqlUnlink, []any{e.RepoID, digest}})
	case CopyReplaced:
		return execAll(tx, step{`UPDATE blobs SET locator = $3, size = $4, inline = NULL, verified_at = 0, damaged = NULL, problem = NULL WHERE pool = $1 AND digest = $2`, []any{e.Pool, digest, e.Locator, e.Size}})
	case KeyMade:
		if !e.Complete {
			return nil
		}
		return execAll(tx, step{sqlAddUploadKey + ` ON CONFLICT DO NOTHING`, []any{e.Name, e.Content, e.Time}})
	}
	if r.skipped == nil {
		r.skipped = map[EventKind]int{}
	}
	r.skipped[e.Kind]++
	return nil
}

// step is a statement with its arguments.
type step struct {
	text string
	args []any
}

func execAll(tx *sqldb.Tx, all ...step) error {
	for _, s := range all {
		if _, err := tx.Exec(s.text, s.args...); err != nil {
			return err
		}
	}
	return nil
}

func deleteRepository(tx *sqldb.Tx, id int64) error {
	var all []step
	for _, table := range []string{"tags", "tag_history", "manifest_references", "manifests", "links", "trash_references", "trash"} {
		all = append(all, step{"DELETE FROM " + table + " WHERE repo_id = $1", []any{id}})
	}
	return execAll(tx, append(all, step{sqlForgetRepo, []any{id}}, step{sqlForgetGone, []any{id}}, step{sqlUsedID, []any{id}})...)
}

func (r *rebuild) addManifest(tx *sqldb.Tx, e record, digest []byte) error {
	if !e.Complete {
		return nil // a later event says that it is gone
	}
	d := registry.Digest(e.Digest)
	info, err := registry.ParseManifest(e.Type, e.Content)
	if err != nil || d.Algorithm().FromBytes(e.Content) != d {
		r.report("I1", registry.Name(e.Repo), d, "the journal's copy of this manifest is not what its digest says")
		return nil
	}
	subject, annotations, err := referrerColumns(info)
	if err != nil {
		return err
	}
	n, err := tx.Exec(sqlAddManifest+` ON CONFLICT DO NOTHING`, e.RepoID, digest, e.Type, len(e.Content), e.Pushed, info.ArtifactType, nullable(subject), annotations, e.Content)
	if err != nil || n == 0 {
		return err
	}
	if err := execAll(tx, step{sqlForgetTrashReferences, []any{e.RepoID, digest}}, step{sqlForgetTrash, []any{e.RepoID, digest}}); err != nil {
		return err
	}
	for _, ref := range info.References {
		packed, err := pack(ref.Digest)
		if err != nil {
			return err
		}
		var known bool
		err = tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM links WHERE repo_id = $1 AND digest = $2) OR EXISTS (SELECT 1 FROM manifests WHERE repo_id = $1 AND digest = $2)`,
			e.RepoID, packed).Scan(&known)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(sqlAddReferences(1), e.RepoID, digest, packed, ref.Manifest, known); err != nil {
			return err
		}
	}
	return nil
}

// changeTag adds to a tag's history, and sets the tag to what that ends with.
func (r *rebuild) changeTag(tx *sqldb.Tx, e record, digest []byte) error {
	err := execAll(tx, step{
		`INSERT INTO tag_history (repo_id, name, number, at, actor, digest) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		[]any{e.RepoID, e.Name, e.Number, e.Time, e.Actor, nullable(digest)},
	})
	if err != nil {
		return err
	}
	var last int64
	if err := tx.QueryRow(`SELECT MAX(number) FROM tag_history WHERE repo_id = $1 AND name = $2`, e.RepoID, e.Name).Scan(&last); err != nil || last != e.Number {
		return err
	}
	if digest == nil {
		return execAll(tx, step{sqlDeleteTag, []any{e.RepoID, e.Name}})
	}
	known, err := exists(tx.QueryRow(sqlHasManifest, e.RepoID, digest))
	if err != nil {
		return err
	}
	if !known { // it was deleted before it was journalled, and so was the tag
		return execAll(tx, step{sqlDeleteTag, []any{e.RepoID, e.Name}})
	}
	return execAll(tx, step{sqlSetTag, []any{e.RepoID, e.Name, digest}})
}

func (r *rebuild) addLink(tx *sqldb.Tx, e record, digest []byte) error {
	inline := any(nil)
	if e.Locator == "" {
		if !e.Complete {
			return nil // it has a copy by now, or is gone
		}
		inline = e.Content
	}
	return execAll(tx,
		step{`INSERT INTO blobs (pool, digest, size, locator, state, epoch, lease_until, created, inline) VALUES ($1, $2, $3, $4, 0, 0, 0, $5, $6)
			ON CONFLICT (pool, digest) DO UPDATE SET locator = excluded.locator, inline = excluded.inline
			WHERE blobs.inline IS NOT NULL OR excluded.inline IS NULL`, []any{e.Pool, digest, e.Size, e.Locator, e.Time, inline}},
		step{sqlLink, []any{e.RepoID, digest, e.Pool}})
}
