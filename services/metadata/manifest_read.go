package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
)

// The row is there if the repository is; its columns are NULL if the manifest is
// not. $3 asks for the bytes, unless the manifest is $4.
const (
	sqlManifestByDigest = `
		SELECT m.digest, m.media_type, m.size, CASE WHEN $3 AND m.digest <> $4 THEN m.payload END, v.lease
		FROM repositories r
		LEFT JOIN manifests m ON m.repo_id = r.id AND m.digest = $2 AND m.damaged IS NULL
		LEFT JOIN reviews v ON v.repo_id = r.id AND v.digest = $2 AND v.kind = 1
		WHERE r.name = $1`
	sqlManifestByTag = `
		SELECT m.digest, m.media_type, m.size, CASE WHEN $3 AND m.digest <> $4 THEN m.payload END, CAST(NULL AS BIGINT)
		FROM repositories r
		LEFT JOIN tags t ON t.repo_id = r.id AND t.name = $2
		LEFT JOIN manifests m ON m.repo_id = r.id AND m.digest = t.digest AND m.damaged IS NULL
		WHERE r.name = $1`
)

// Manifest returns what q names.
func (c *Catalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	if err := c.access.allowRef(a, repo, q.Ref, registry.ActRead); err != nil {
		return registry.Manifest{}, err
	}
	m, ok := c.rows.manifest(repo, q)
	c.meters.manifests.count(ok)
	if ok {
		return m, ctx.Err()
	}
	at := c.rows.now()
	m, lease, err := c.readManifest(ctx, repo, q)
	if err != nil {
		return registry.Manifest{}, err
	}
	digest, err := pack(m.Digest)
	if err != nil {
		return registry.Manifest{}, err
	}
	until, there := c.keep(ctx, repo, digest, reviewManifest, lease)
	if !there {
		return registry.Manifest{}, registry.ErrManifestUnknown
	}
	c.rows.fillManifest(repo, q, m, until, at)
	return m, nil
}

// readManifest returns what q names, and until when it is promised: nil if that
// need not be.
func (c *Catalog) readManifest(ctx context.Context, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, *int64, error) {
	query, ref := sqlManifestByTag, any(string(q.Ref.Tag))
	if q.Ref.Digest != "" {
		d, err := pack(q.Ref.Digest)
		if err != nil {
			return registry.Manifest{}, nil, err
		}
		query, ref = sqlManifestByDigest, d
	}
	have := []byte{} // no digest
	if q.Have != "" {
		var err error
		if have, err = pack(q.Have); err != nil {
			return registry.Manifest{}, nil, err
		}
	}
	var (
		digest    []byte
		mediaType sql.NullString
		size      sql.NullInt64
		m         registry.Manifest
		lease     *int64
	)
	err := c.db.QueryRow(ctx, query, string(repo), ref, !q.NoBytes, have).Scan(&digest, &mediaType, &size, &m.Bytes, &lease)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return registry.Manifest{}, nil, registry.ErrNameUnknown
	case err != nil:
		return registry.Manifest{}, nil, fmt.Errorf("reading a manifest: %w", err)
	case digest == nil:
		return registry.Manifest{}, nil, registry.ErrManifestUnknown
	}
	m.MediaType, m.Size = mediaType.String, size.Int64
	if m.Digest, err = unpack(digest); err != nil {
		return registry.Manifest{}, nil, err
	}
	return m, lease, c.checkManifest(ctx, repo, m.Digest, m.Bytes)
}
