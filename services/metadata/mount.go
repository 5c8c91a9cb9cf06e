package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Mount makes known in repo what from, or any repository, knows as d.
func (c *Catalog) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	if err := c.allowChange(a, repo, registry.ActCreate); err != nil {
		return registry.Stored{}, err
	}
	if from != "" && !c.mayMount(a, from, d) {
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	digest, err := pack(d)
	if err != nil {
		return registry.Stored{}, err
	}
	var s registry.Stored
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := tx.Lock(append([]sqldb.Lock{usesRepo(repo), decidesCopy(registry.PoolOf(repo, c.opt.Pools), d)}, c.limits().quotaLocks(repo)...)...); err != nil {
			return err
		}
		s, err = c.mount(tx, a, repo, d, digest, from)
		return err
	})
	if err != nil {
		return registry.Stored{}, err
	}
	return s, nil
}

// mayMount reports whether a may read d in from: by rules that may ask for the digest, as
// when it is pulled.
func (c *Catalog) mayMount(a registry.Actor, from registry.Name, d registry.Digest) bool {
	return c.access.allowRef(a, from, registry.Reference{Digest: d}, registry.ActRead) == nil
}

func (c *Catalog) mount(tx *sqldb.Tx, a registry.Actor, repo registry.Name, d registry.Digest, digest []byte, from registry.Name) (registry.Stored, error) {
	source, err := c.source(tx, a, d, digest, from)
	if err != nil {
		return registry.Stored{}, err
	}
	id, err := c.makeRepo(tx, repo, a)
	if err != nil {
		return registry.Stored{}, err
	}
	if here, err := exists(tx.QueryRow(sqlHasManifest, id, digest)); err != nil {
		return registry.Stored{}, err
	} else if here && source.inline != nil {
		// If nothing needs the manifest it is promised, as it is by an answer that it is there.
		err := tx.Queue(sqlPromise, id, digest, reviewManifest, c.promise(c.poolOf(repo)))
		return registry.Stored{Digest: d, Size: int64(len(source.inline))}, err
	}
	// A repository's bytes are in its own pool: a copy in another is of no use.
	own := registry.Stored{Digest: d, Pool: registry.PoolOf(repo, c.opt.Pools)}
	damaged := false
	err = tx.QueryRow(sqlCopy, string(own.Pool), digest).Scan(&own.Size, &own.Locator, &damaged)
	switch {
	case damaged:
		return registry.Stored{}, errBlobDamaged
	case errors.Is(err, sql.ErrNoRows) && source.inline != nil:
		own.Size = int64(len(source.inline))
		err = tx.Queue(sqlAddBlob, string(own.Pool), digest, own.Size, "", c.promise(own.Pool), c.now(), source.inline)
	case errors.Is(err, sql.ErrNoRows):
		return registry.Stored{}, registry.ErrBlobUnknown
	}
	if err != nil {
		return registry.Stored{}, fmt.Errorf("mounting a blob: %w", err)
	}
	if err := c.link(tx, id, repo, own, digest, a); err != nil {
		return registry.Stored{}, err
	}
	// The installation mounts for a mirror: what is cached stays that, until a manifest
	// that was pushed needs it.
	revive := sqlRevivePushed
	if a.System {
		revive = sqlReviveCached
	}
	if err := tx.Queue(revive, string(own.Pool), digest); err != nil {
		return registry.Stored{}, fmt.Errorf("mounting a blob: %w", err)
	}
	if err := tx.Queue(sqlReviewNewLink, string(repo), digest, string(own.Pool), c.promise(own.Pool)); err != nil {
		return registry.Stored{}, fmt.Errorf("mounting a blob: %w", err)
	}
	if own.Locator == "" {
		own.Pool = "" // it is inline, not in the pool
	}
	return own, nil
}

const (
	sqlLinkedIn   = `SELECT r.name, NULL FROM repositories r JOIN links l ON l.repo_id = r.id AND l.digest = $2 WHERE r.name = $1`
	sqlManifestIn = `SELECT r.name, m.payload FROM repositories r JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 WHERE r.name = $1`

	sqlLinkedAnywhere   = `SELECT r.name, NULL FROM links l JOIN repositories r ON r.id = l.repo_id WHERE l.digest = $1 LIMIT 1000`
	sqlManifestAnywhere = `SELECT r.name, m.payload FROM manifests m JOIN repositories r ON r.id = m.repo_id WHERE m.digest = $1 LIMIT 1000`
)

// source is where a mount takes its content from.
type source struct {
	inline []byte // the manifest's bytes if that is what it is, nil for a blob
}

// source finds d in from, or anywhere a may read if from is "".
func (c *Catalog) source(tx *sqldb.Tx, a registry.Actor, d registry.Digest, digest []byte, from registry.Name) (source, error) {
	queries, args := []string{sqlLinkedIn, sqlManifestIn}, []any{string(from), digest}
	if from == "" {
		queries, args = []string{sqlLinkedAnywhere, sqlManifestAnywhere}, []any{digest}
	}
	for _, q := range queries {
		s, found, err := c.firstReadable(tx, a, d, q, args)
		if err != nil {
			return source{}, fmt.Errorf("looking for content to mount: %w", err)
		}
		if found {
			return s, nil
		}
	}
	return source{}, registry.ErrBlobUnknown
}

// firstReadable returns the first that a may read d in.
func (c *Catalog) firstReadable(tx *sqldb.Tx, a registry.Actor, d registry.Digest, query string, args []any) (s source, found bool, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return source{}, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo, &s.inline); err != nil {
			return source{}, false, err
		}
		if c.mayMount(a, registry.Name(repo), d) {
			return s, true, nil
		}
	}
	return source{}, false, rows.Err()
}
