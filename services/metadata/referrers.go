package metadata

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlReferrers = `
		SELECT digest, media_type, size, artifact_type, annotations FROM manifests
		WHERE repo_id = $1 AND subject = $2 AND digest > $3 ORDER BY digest LIMIT $4`
	sqlReferrersOfType = `
		SELECT digest, media_type, size, artifact_type, annotations FROM manifests
		WHERE repo_id = $1 AND subject = $2 AND artifact_type = $5 AND digest > $3 ORDER BY digest LIMIT $4`
)

// maxReferrersBytes is how many bytes of annotations one answer may have. A
// page ends early at the first entry beyond it.
const maxReferrersBytes = 3 << 20

// Referrers lists the manifests of repo whose subject is d.
func (c *Catalog) Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	none := registry.List[registry.Descriptor]{}
	if err := c.access.allow(a, repo, registry.ActRead); err != nil {
		return none, err
	}
	limit, err := pageLimit(p)
	if err != nil {
		return none, err
	}
	subject, err := pack(d)
	if err != nil {
		return none, err
	}
	after := []byte{} // before all digests
	if p.After != "" {
		if after, err = pack(p.After); err != nil {
			return none, registry.ErrPageInvalid
		}
	}
	id, err := c.readRepoID(ctx, repo)
	if errors.Is(err, registry.ErrNameUnknown) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	query, args := sqlReferrers, []any{id, subject, after, limit + 1}
	if artifactType != "" {
		query, args = sqlReferrersOfType, append(args, artifactType)
	}
	rows, err := c.db.Query(ctx, query, args...)
	if err != nil {
		return none, fmt.Errorf("listing referrers: %w", err)
	}
	defer rows.Close()
	var list registry.List[registry.Descriptor]
	for room := maxReferrersBytes; rows.Next(); {
		desc, size, err := scanReferrer(rows)
		if err != nil {
			return none, fmt.Errorf("listing referrers: %w", err)
		}
		room -= size
		if len(list.Items) == limit || room < 0 && len(list.Items) > 0 {
			list.More = true
			return list, nil
		}
		list.Items = append(list.Items, desc)
	}
	if err := rows.Err(); err != nil {
		return none, fmt.Errorf("listing referrers: %w", err)
	}
	return list, nil
}

// scanReferrer reads a row, and says how large its annotations are.
func scanReferrer(rows *sqldb.Rows) (registry.Descriptor, int, error) {
	var (
		d           registry.Descriptor
		digest      []byte
		annotations sql.NullString
	)
	err := rows.Scan(&digest, &d.MediaType, &d.Size, &d.ArtifactType, &annotations)
	if err != nil {
		return d, 0, err
	}
	if d.Digest, err = unpack(digest); err != nil {
		return d, 0, err
	}
	if annotations.Valid {
		err = json.Unmarshal([]byte(annotations.String), &d.Annotations)
	}
	return d, len(annotations.String), err
}
