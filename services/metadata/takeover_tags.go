package metadata

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlAdoptedTag  = `SELECT digest FROM adopted_tags WHERE repo = $1 AND name = $2`
	sqlAdoptedTags = `SELECT name FROM adopted_tags WHERE repo = $1 AND name > $2 ORDER BY name LIMIT $3`
	sqlAdoptTag    = `
		INSERT INTO adopted_tags (repo, name, digest) VALUES ($1, $2, $3)
		ON CONFLICT (repo, name) DO UPDATE SET digest = excluded.digest`
	sqlForgetTag  = `DELETE FROM adopted_tags WHERE repo = $1 AND name = $2`
	sqlHadTag     = `SELECT 1 FROM tag_history WHERE repo_id = $1 AND name = $2 LIMIT 1`
	sqlAdoptedAll = `SELECT digest FROM adopted_manifests WHERE repo = $1 AND digest > $2 ORDER BY digest LIMIT $3`
	sqlForgetOne  = `DELETE FROM adopted_manifests WHERE repo = $1 AND digest = $2`
)

// tags points tags to what the index says. It compares what the index said
// before, what it says now, and what the tag is: a tag that was changed here since
// the last take-over stays as it is.
func (r *takingRepo) tags(want map[registry.Tag]registry.Digest) error {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(want)), func(t registry.Tag) bool { return !r.seen[want[t]] })
	for part := range slices.Chunk(names, takeTags) {
		var set []registry.Tag
		err := r.c.db.WriteLow(r.ctx, func(tx *sqldb.Tx) error {
			set = nil
			id, err := r.lockTags(tx, part)
			if err != nil || id == 0 {
				return err
			}
			ch := r.c.change()
			for _, t := range part {
				ok, err := r.tag(tx, ch, id, t, want[t])
				if err != nil {
					return err
				}
				if ok {
					set = append(set, t)
					ch.tags = append(ch.tags, rowKey{r.repo, string(t)})
				}
			}
			ch.attach(tx)
			return nil
		})
		if err != nil {
			return fmt.Errorf("setting tags: %w", err)
		}
		r.taken.Tags += len(set)
	}
	return nil
}

// lockTags begins a transaction about tags. It returns 0 if the repository is not
// there.
func (r *takingRepo) lockTags(tx *sqldb.Tx, tags []registry.Tag) (int64, error) {
	if err := tx.Lock(append([]sqldb.Lock{usesRepo(r.repo)}, decidesTags(r.repo, tags...)...)...); err != nil {
		return 0, err
	}
	id, err := repoID(tx, r.repo)
	return id, ignoreGone(err)
}

// adoptedTag returns what the index said of a tag, nil if nothing.
func (r *takingRepo) adoptedTag(tx *sqldb.Tx, t registry.Tag) ([]byte, error) {
	var d []byte
	err := tx.QueryRow(sqlAdoptedTag, string(r.repo), string(t)).Scan(&d)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return d, err
}

// tag points a tag to d unless it was changed here, and reports whether it did.
func (r *takingRepo) tag(tx *sqldb.Tx, ch *change, id int64, t registry.Tag, d registry.Digest) (bool, error) {
	want, err := pack(d)
	if err != nil {
		return false, err
	}
	before, err := r.adoptedTag(tx, t)
	if err != nil || bytes.Equal(before, want) {
		return false, err
	}
	now, err := tagDigest(tx, id, t)
	if err != nil {
		return false, err
	}
	ours := !bytes.Equal(now, before)
	if before == nil && now == nil {
		if ours, err = exists(tx.QueryRow(sqlHadTag, id, string(t))); err != nil {
			return false, err
		}
	}
	if there, err := exists(tx.QueryRow(sqlHasManifest, id, want)); err != nil {
		return false, err
	} else if !there {
		ours = true // the manifest was removed here
	}
	if err := tx.Queue(sqlAdoptTag, string(r.repo), string(t), want); err != nil || ours {
		return false, err
	}
	if now != nil {
		if err := r.c.untagged(tx, ch, id, r.repo, now); err != nil {
			return false, err
		}
		if err := r.c.auditMove(tx, registry.Actor{ID: TakeoverActor}, r.repo, t, now, want); err != nil {
			return false, err
		}
	}
	return true, r.c.setTag(tx, id, t, registry.Actor{ID: TakeoverActor}, want)
}

// forget removes the tags that the index does not list any more and that were not
// changed here, and forgets the manifests that it does not list any more: they
// stay, without a tag, until they are collected.
func (r *takingRepo) forget(want map[registry.Tag]registry.Digest) error {
	for after := registry.Tag(""); ; {
		page, err := r.adoptedPage(after)
		if err != nil || len(page) == 0 {
			if err != nil {
				return err
			}
			break
		}
		after = page[len(page)-1]
		gone := slices.DeleteFunc(page, func(t registry.Tag) bool { _, ok := want[t]; return ok })
		if err := r.removeTags(gone); err != nil {
			return err
		}
	}
	return r.forgetManifests()
}

func (r *takingRepo) adoptedPage(after registry.Tag) ([]registry.Tag, error) {
	rows, err := r.c.db.Query(r.ctx, sqlAdoptedTags, string(r.repo), string(after), takeTags)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []registry.Tag
	for rows.Next() {
		var t string
		if err := rows.Scan(&t); err != nil {
			return nil, err
		}
		page = append(page, registry.Tag(t))
	}
	return page, rows.Err()
}

func (r *takingRepo) removeTags(gone []registry.Tag) error {
	if len(gone) == 0 {
		return nil
	}
	err := r.c.db.WriteLow(r.ctx, func(tx *sqldb.Tx) error {
		id, err := r.lockTags(tx, gone)
		if err != nil {
			return err
		}
		ch := r.c.change()
		for _, t := range gone {
			before, err := r.adoptedTag(tx, t)
			if err != nil {
				return err
			}
			var now []byte
			if id != 0 {
				if now, err = tagDigest(tx, id, t); err != nil {
					return err
				}
			}
			if now != nil && bytes.Equal(now, before) {
				if err := r.c.removeTag(tx, id, t, registry.Actor{ID: TakeoverActor}); err != nil {
					return err
				}
				if err := r.c.untagged(tx, ch, id, r.repo, now); err != nil {
					return err
				}
				ch.tags = append(ch.tags, rowKey{r.repo, string(t)})
			}
			if err := tx.Queue(sqlForgetTag, string(r.repo), string(t)); err != nil {
				return err
			}
		}
		ch.attach(tx)
		return nil
	})
	if err != nil {
		return fmt.Errorf("removing tags: %w", err)
	}
	return nil
}

// forgetManifests forgets the manifests that the index does not lead to any more:
// if they come back there, they come back here.
func (r *takingRepo) forgetManifests() error {
	for after := []byte{}; ; {
		page, err := r.adoptedDigests(after)
		if err != nil || len(page) == 0 {
			return err
		}
		after = page[len(page)-1]
		var gone [][]byte
		for _, packed := range page {
			d, err := unpack(packed)
			if err != nil {
				return err
			}
			if _, ok := r.seen[d]; !ok {
				gone = append(gone, packed)
			}
		}
		if len(gone) == 0 {
			continue
		}
		err = r.c.db.WriteLow(r.ctx, func(tx *sqldb.Tx) error {
			if err := tx.Lock(usesRepo(r.repo)); err != nil {
				return err
			}
			for _, packed := range gone {
				if err := tx.Queue(sqlForgetOne, string(r.repo), packed); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("forgetting manifests: %w", err)
		}
	}
}

func (r *takingRepo) adoptedDigests(after []byte) ([][]byte, error) {
	rows, err := r.c.db.Query(r.ctx, sqlAdoptedAll, string(r.repo), after, takeManifests*16)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page [][]byte
	for rows.Next() {
		var d []byte
		if err := rows.Scan(&d); err != nil {
			return nil, err
		}
		page = append(page, d)
	}
	return page, rows.Err()
}
