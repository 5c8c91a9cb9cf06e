package metadata

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// PutManifest stores m, what it refers to, and its tags, in one transaction.
func (c *Catalog) PutManifest(ctx context.Context, a registry.Actor, repo registry.Name, m registry.ManifestPut) (registry.ManifestInfo, error) {
	if err := c.access.allow(a, repo, actPush); err != nil {
		return registry.ManifestInfo{}, err
	}
	p, err := c.newPut(a, repo, m)
	if err != nil {
		return registry.ManifestInfo{}, err
	}
	if err := c.db.Write(ctx, p.run); err != nil {
		return registry.ManifestInfo{}, err
	}
	return p.info, nil
}

// put is a PutManifest whose manifest was parsed and verified.
type put struct {
	c      *Catalog
	actor  registry.Actor
	repo   registry.Name
	m      registry.ManifestPut
	tags   []registry.Tag // each once
	info   registry.ManifestInfo
	digest []byte
	refs   []packedReference
	// The columns that describe the manifest in a referrers list.
	subject     []byte // nil if none
	annotations any    // string or nil
}

// packedReference is a reference with its digest as it is stored.
type packedReference struct {
	registry.ManifestReference
	packed  []byte
	missing bool
	size    int64 // that it has here, unless it is missing
}

func (c *Catalog) newPut(a registry.Actor, repo registry.Name, m registry.ManifestPut) (*put, error) {
	if len(m.Tags) > registry.MaxTagsPerPut {
		return nil, registry.ErrTooManyTags
	}
	info, err := registry.ParseManifest(m.MediaType, m.Bytes)
	if err != nil {
		return nil, err
	}
	digest, err := pack(m.Digest)
	if err != nil {
		return nil, err
	}
	if m.Digest.Algorithm().FromBytes(m.Bytes) != m.Digest {
		return nil, registry.ErrDigestInvalid
	}
	p := &put{c: c, actor: a, repo: repo, m: m, info: info, digest: digest, refs: make([]packedReference, len(info.References))}
	for _, t := range m.Tags {
		if !slices.Contains(p.tags, t) {
			p.tags = append(p.tags, t)
		}
	}
	for i, r := range info.References {
		p.refs[i].ManifestReference = r
		if p.refs[i].packed, err = pack(r.Digest); err != nil {
			return nil, err
		}
	}
	p.subject, p.annotations, err = referrerColumns(info)
	return p, err
}

// referrerColumns returns what of info is stored for lists of referrers.
func referrerColumns(info registry.ManifestInfo) (subject []byte, annotations any, err error) {
	if info.Subject != "" {
		if subject, err = pack(info.Subject); err != nil {
			return nil, nil, err
		}
	}
	if len(info.Annotations) > 0 {
		b, err := json.Marshal(info.Annotations) // keys are sorted
		if err != nil {
			return nil, nil, fmt.Errorf("writing annotations: %w", err)
		}
		annotations = string(b)
	}
	return subject, annotations, nil
}

const sqlHasManifest = `SELECT 1 FROM manifests WHERE repo_id = $1 AND digest = $2`

// run is the operation.
func (p *put) run(tx *sqldb.Tx) error {
	if err := tx.Lock(append([]sqldb.Lock{usesRepo(p.repo)}, decidesTags(p.repo, p.tags...)...)...); err != nil {
		return err
	}
	id, err := p.c.makeRepo(tx, p.repo)
	if err != nil {
		return err
	}
	old := make([][]byte, len(p.tags))
	for i, t := range p.tags {
		if old[i], err = tagDigest(tx, id, t); err != nil {
			return err
		}
		if err := holds(p.m.If, old[i]); err != nil {
			return err
		}
	}
	if err := p.store(tx, id); err != nil {
		return err
	}
	ch := p.c.change()
	for i, t := range p.tags {
		if bytes.Equal(old[i], p.digest) {
			continue
		}
		if err := p.c.setTag(tx, id, t, p.actor, p.digest); err != nil {
			return err
		}
		ch.tags = append(ch.tags, rowKey{p.repo, string(t)})
	}
	ch.attach(tx)
	return nil
}

const sqlAddManifest = `
	INSERT INTO manifests (repo_id, digest, media_type, size, pushed, artifact_type, subject, annotations, payload)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`

// store adds the manifest and its references unless it is there.
func (p *put) store(tx *sqldb.Tx, id int64) error {
	has, err := exists(tx.QueryRow(sqlHasManifest, id, p.digest))
	if err != nil || has {
		return err
	}
	if err := p.markMissing(tx, id); err != nil {
		return err
	}
	if missing := p.missing(); len(missing) > 0 && !p.c.opt.AllowSparse {
		return registry.ErrManifestBlobUnknown.Detailed(missing)
	}
	for _, r := range p.refs {
		if r.missing || p.c.opt.AllowWrongSizes {
			continue
		}
		if err := r.CheckSize(r.size); err != nil {
			return err
		}
	}
	_, err = tx.Exec(sqlAddManifest, id, p.digest, p.info.MediaType, len(p.m.Bytes), p.c.now(),
		p.info.ArtifactType, nullable(p.subject), p.annotations, p.m.Bytes)
	if err != nil {
		return fmt.Errorf("storing a manifest: %w", err)
	}
	if err := p.addReferences(tx, id); err != nil {
		return fmt.Errorf("storing a manifest's references: %w", err)
	}
	return nil
}

// markMissing finds the references that the repository knows neither as a
// linked blob nor as a manifest, and the sizes of the others.
func (p *put) markMissing(tx *sqldb.Tx, id int64) error {
	unknown := make(map[string][]byte, len(p.refs))
	sizes := make(map[string]int64, len(p.refs))
	for _, r := range p.refs {
		unknown[string(r.packed)] = r.packed
	}
	// Where they probably are first.
	tables := []string{"links", "manifests"}
	if len(p.refs) > 0 && p.refs[0].Manifest {
		slices.Reverse(tables)
	}
	for _, t := range tables {
		if err := moveKnown(tx, id, t, unknown, sizes); err != nil {
			return fmt.Errorf("looking for a manifest's content: %w", err)
		}
	}
	for i := range p.refs {
		size, known := sizes[string(p.refs[i].packed)]
		p.refs[i].size, p.refs[i].missing = size, !known
	}
	return nil
}

// moveKnown moves the digests that table has for the repository from unknown to
// sizes.
func moveKnown(tx *sqldb.Tx, id int64, table string, unknown map[string][]byte, sizes map[string]int64) error {
	list := make([]any, 0, len(unknown))
	for _, d := range unknown {
		list = append(list, d)
	}
	return sqldb.Padded(list, func(part []any) error {
		rows, err := tx.Query(sqlKnown(table, len(part)), append([]any{id}, part...)...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var d sql.RawBytes
			var size int64
			if err := rows.Scan(&d, &size); err != nil {
				return err
			}
			delete(unknown, string(d))
			sizes[string(d)] = size
		}
		return rows.Err()
	})
}

func sqlKnown(table string, n int) string {
	from := "SELECT digest, size FROM manifests WHERE repo_id = $1 AND digest"
	if table == "links" {
		from = "SELECT l.digest, b.size FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = $1 AND l.digest"
	}
	return from + " IN (" + sqldb.Placeholders(2, n) + ")"
}

// missing returns what the manifest can't do without.
func (p *put) missing() []registry.Digest {
	var all []registry.Digest
	for _, r := range p.refs {
		if r.missing && !r.Optional {
			all = append(all, r.Digest)
		}
	}
	return all
}

func (p *put) addReferences(tx *sqldb.Tx, id int64) error {
	return sqldb.Padded(p.refs, func(part []packedReference) error {
		args := append(make([]any, 0, 2+3*len(part)), id, p.digest)
		for _, r := range part {
			args = append(args, r.packed, r.Manifest, !r.missing)
		}
		_, err := tx.Exec(sqlAddReferences(len(part)), args...)
		return err
	})
}

func sqlAddReferences(n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO manifest_references (repo_id, manifest, digest, is_manifest, required) VALUES ")
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("($1,$2," + sqldb.Placeholders(3+3*i, 3) + ")")
	}
	b.WriteString(" ON CONFLICT DO NOTHING")
	return b.String()
}

// exists reports whether a query found a row.
func exists(row sqldb.Row) (bool, error) {
	var one int
	err := row.Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("looking up a row: %w", err)
	}
	return true, nil
}
