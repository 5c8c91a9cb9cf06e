package metadata

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlInTrash   = `SELECT media_type, pushed, payload, tags, until FROM trash WHERE repo_id = $1 AND digest = $2`
	sqlTrashRefs = `SELECT digest, is_manifest, required FROM trash_references WHERE repo_id = $1 AND manifest = $2 ORDER BY digest`
	sqlLastTwo   = `SELECT digest FROM tag_history WHERE repo_id = $1 AND name = $2 ORDER BY number DESC LIMIT 2`

	sqlRestoreReferences = `
		INSERT INTO manifest_references (repo_id, manifest, digest, is_manifest, required)
		SELECT repo_id, manifest, digest, is_manifest, required FROM trash_references WHERE repo_id = $1 AND manifest = $2
		ON CONFLICT DO NOTHING`
	sqlRestoreManifest = `
		INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, subject, annotations, payload)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	sqlRestoreLink = `
		INSERT INTO links (repo_id, digest, pool) SELECT $1, b.digest, b.pool FROM blobs b WHERE b.pool = $2 AND b.digest = $3
		ON CONFLICT (repo_id, digest) DO NOTHING`
)

// Undelete brings back what r names in repo.
func (c *Catalog) Undelete(ctx context.Context, a registry.Actor, repo registry.Name, r registry.Reference) error {
	if err := c.access.allowRef(a, repo, r, registry.ActCreate); err != nil {
		return err
	}
	if err := c.allowGrowth(repo); err != nil {
		return err
	}
	if r == (registry.Reference{}) {
		return c.db.Write(ctx, func(tx *sqldb.Tx) error { return c.undeleteRepository(tx, a, repo) })
	}
	id, err := c.readRepoID(ctx, repo)
	if err != nil {
		return err
	}
	d, err := c.deletedDigest(ctx, id, r)
	if err != nil {
		return err
	}
	u := &undelete{c: c, actor: a, repo: repo, pool: c.poolOf(repo), tag: r.Tag, digest: d}
	if u.blobs, err = u.mayNeed(ctx, id); err != nil {
		return err
	}
	return c.db.Write(ctx, u.run)
}

// deletedDigest returns the manifest to restore: the one r names, or the one that
// the tag pointed to when it was removed.
func (c *Catalog) deletedDigest(ctx context.Context, id int64, r registry.Reference) ([]byte, error) {
	if r.Digest != "" {
		return pack(r.Digest)
	}
	rows, err := c.db.Query(ctx, sqlLastTwo, id, string(r.Tag))
	if err != nil {
		return nil, fmt.Errorf("reading a tag's history: %w", err)
	}
	defer rows.Close()
	var last [][]byte
	for rows.Next() {
		var d []byte
		if err := rows.Scan(&d); err != nil {
			return nil, fmt.Errorf("reading a tag's history: %w", err)
		}
		last = append(last, d)
	}
	switch {
	case rows.Err() != nil:
		return nil, fmt.Errorf("reading a tag's history: %w", rows.Err())
	case len(last) > 0 && last[0] != nil:
		return nil, registry.ErrPreconditionFailed.With("the tag exists")
	case len(last) < 2 || last[1] == nil:
		return nil, registry.ErrManifestUnknown.With("no such tag was removed")
	}
	return last[1], nil
}

// undelete restores a manifest, or a tag.
type undelete struct {
	c      *Catalog
	actor  registry.Actor
	repo   registry.Name
	pool   registry.Pool
	tag    registry.Tag // to restore; "" for all that the manifest had
	digest []byte
	blobs  [][]byte // that may have to be linked again; their copies are locked
	ch     *change
}

// mayNeed returns the blobs that what is to be restored refers to.
func (u *undelete) mayNeed(ctx context.Context, id int64) ([][]byte, error) {
	var blobs [][]byte
	seen := map[string]bool{string(u.digest): true}
	for queue := [][]byte{u.digest}; len(queue) > 0; queue = queue[1:] {
		rows, err := u.c.db.Query(ctx, sqlTrashRefs, id, queue[0])
		if err != nil {
			return nil, fmt.Errorf("reading what a deleted manifest needs: %w", err)
		}
		for rows.Next() {
			var r reference
			if err := rows.Scan(&r.digest, &r.manifest, &r.required); err != nil {
				rows.Close()
				return nil, fmt.Errorf("reading what a deleted manifest needs: %w", err)
			}
			if !r.required || seen[string(r.digest)] {
				continue
			}
			seen[string(r.digest)] = true
			if r.manifest {
				queue = append(queue, r.digest)
			}
			blobs = append(blobs, r.digest)
		}
		err = rows.Err()
		rows.Close()
		if err != nil {
			return nil, fmt.Errorf("reading what a deleted manifest needs: %w", err)
		}
	}
	slices.SortFunc(blobs, slices.Compare)
	return blobs, nil
}

func (u *undelete) run(tx *sqldb.Tx) error {
	locks := []sqldb.Lock{removesFrom(u.repo)}
	for _, b := range u.blobs {
		d, err := unpack(b)
		if err != nil {
			return err
		}
		locks = append(locks, decidesCopy(u.pool, d))
	}
	locks = append(locks, u.c.limits().quotaLocks(u.repo)...)
	if err := tx.Lock(locks...); err != nil {
		return err
	}
	id, err := repoID(tx, u.repo)
	if err != nil {
		return err
	}
	u.ch = u.c.change()
	here, err := exists(tx.QueryRow(sqlHasManifest, id, u.digest))
	if err != nil {
		return err
	}
	tags, err := u.restore(tx, id, u.digest)
	if errors.Is(err, registry.ErrManifestUnknown) && here && u.tag != "" {
		err = nil // only the tag is missing
	}
	if err != nil {
		return err
	}
	if u.tag != "" {
		tags = []registry.Tag{u.tag}
	}
	for _, t := range tags {
		if err := u.restoreTag(tx, id, t); err != nil {
			return err
		}
	}
	u.ch.attach(tx)
	return nil
}

func (u *undelete) restoreTag(tx *sqldb.Tx, id int64, t registry.Tag) error {
	old, err := tagDigest(tx, id, t)
	if err != nil {
		return err
	}
	if old != nil {
		if u.tag == "" {
			return nil // it was set anew
		}
		return registry.ErrPreconditionFailed.With("the tag exists")
	}
	// Who may not set it may not bring it back with the manifest either.
	if err := u.c.access.allowRef(u.actor, u.repo, registry.Reference{Tag: t}, registry.ActCreate); err != nil {
		return err
	}
	u.ch.tags = append(u.ch.tags, rowKey{u.repo, string(t)})
	return u.c.setTag(tx, id, t, u.actor, u.digest)
}

// restore takes a manifest out of the trash, with what it needs, and returns the
// tags it had. One that has been pushed again is only taken out.
func (u *undelete) restore(tx *sqldb.Tx, id int64, digest []byte) ([]registry.Tag, error) {
	var (
		mediaType, names string
		pushed, until    int64
		payload          []byte
	)
	err := tx.QueryRow(sqlInTrash, id, digest).Scan(&mediaType, &pushed, &payload, &names, &until)
	if errors.Is(err, sql.ErrNoRows) || err == nil && until <= u.c.now() {
		return nil, registry.ErrManifestUnknown.With("no such manifest was deleted, or it can't be restored any more")
	}
	if err != nil {
		return nil, fmt.Errorf("reading a deleted manifest: %w", err)
	}
	var tags []registry.Tag
	for name := range strings.SplitSeq(names, "\n") {
		if name != "" {
			tags = append(tags, registry.Tag(name))
		}
	}
	here, err := exists(tx.QueryRow(sqlHasManifest, id, digest))
	if err != nil || here {
		return tags, errors.Join(err, forget(tx, id, digest))
	}
	refs, err := u.bringBack(tx, id, digest)
	if err != nil {
		return nil, err
	}
	info, err := registry.ParseManifest(mediaType, payload)
	if err != nil {
		return nil, err
	}
	subject, annotations, err := referrerColumns(info)
	if err != nil {
		return nil, err
	}
	d, err := unpack(digest)
	if err != nil {
		return nil, err
	}
	u.ch.manifests = append(u.ch.manifests, rowKey{u.repo, string(d)})
	promised := u.c.promise(u.pool)
	err = errors.Join(
		tx.Queue(sqlRestoreManifest, id, digest, info.MediaType, len(payload), pushed, info.ArtifactType, nullable(subject), annotations, payload),
		tx.Queue(sqlRestoreReferences, id, digest),
		u.c.tell(tx, ManifestStored, id, u.actor, digest),
		u.c.review(tx, id, digest, reviewManifest, u.pool, promised, promised),
		sqldb.Padded(refs, func(part []any) error {
			return tx.Queue(sqlNoReviews(len(part)), append([]any{id, promised, digest}, part...)...)
		}),
		u.c.claim(tx, id, u.pool, refs), // somebody wants it, whoever has fetched it
		forget(tx, id, digest),
		u.c.charge(tx, id, u.repo, digest, int64(len(payload)), true))
	return tags, err
}

// bringBack makes sure that the repository has what a deleted manifest needs, and
// returns its references. What was deleted after it is restored, too.
func (u *undelete) bringBack(tx *sqldb.Tx, id int64, digest []byte) (refs []any, err error) {
	var all []reference
	err = tx.Run(sqldb.Statement{Text: sqlTrashRefs, Args: []any{id, digest}, Row: func(scan func(dest ...any) error) error {
		var r reference
		err := scan(&r.digest, &r.manifest, &r.required)
		all = append(all, r)
		return err
	}})
	if err != nil {
		return nil, fmt.Errorf("reading what a deleted manifest needs: %w", err)
	}
	var missing []registry.Digest
	for _, r := range all {
		refs = append(refs, r.digest)
		if !r.required {
			continue
		}
		there, err := u.find(tx, id, r)
		if err != nil {
			return nil, err
		}
		if !there {
			d, err := unpack(r.digest)
			if err != nil {
				return nil, err
			}
			missing = append(missing, d)
		}
	}
	if len(missing) > 0 {
		return nil, registry.ErrManifestBlobUnknown.Detailed(missing)
	}
	return refs, nil
}

// find reports whether the repository has what a reference names, after restoring
// it if need be.
func (u *undelete) find(tx *sqldb.Tx, id int64, r reference) (bool, error) {
	for _, q := range []string{sqlHasLink, sqlHasManifest} {
		if there, err := exists(tx.QueryRow(q, id, r.digest)); err != nil || there {
			return there, err
		}
	}
	if r.manifest {
		_, err := u.restore(tx, id, r.digest)
		if !errors.Is(err, registry.ErrManifestUnknown) {
			return err == nil, err
		}
	}
	if _, locked := slices.BinarySearchFunc(u.blobs, r.digest, func(a, b []byte) int { return cmp.Compare(string(a), string(b)) }); !locked {
		return false, nil // it was put into the trash a moment ago
	}
	event := u.c.linkEvents(u.repo, u.pool, r.digest, u.actor, true)
	if err := tx.Queue(event.Text, event.Args...); err != nil {
		return false, err
	}
	n, err := tx.Exec(sqlRestoreLink, id, string(u.pool), r.digest)
	if err != nil || n == 0 {
		return false, err
	}
	d, err := unpack(r.digest)
	if err != nil {
		return false, err
	}
	u.ch.blobs = append(u.ch.blobs, rowKey{u.repo, string(d)})
	if len(u.c.limits().quotasOf(u.repo)) > 0 {
		var size int64
		if err := tx.QueryRow(sqlBlobSize, string(u.pool), r.digest).Scan(&size); err != nil {
			return false, err
		}
		if err := u.c.charge(tx, id, u.repo, r.digest, size, true); err != nil {
			return false, err
		}
	}
	return true, tx.Queue(sqlRevive, string(u.pool), r.digest)
}
