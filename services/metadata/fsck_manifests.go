package metadata

import (
	"database/sql"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// Pages begin behind ($1, $2).
const (
	sqlFsckManifests = `
		SELECT m.repo_id, m.digest, COALESCE(r.name, g.name)
		FROM manifests m LEFT JOIN repositories r ON r.id = m.repo_id LEFT JOIN deleted_repositories g ON g.id = m.repo_id
		WHERE (m.repo_id, m.digest) > ($1, $2) ORDER BY m.repo_id, m.digest LIMIT $3`
	sqlFsckManifest = `
		SELECT media_type, size, artifact_type, subject, annotations, payload FROM manifests WHERE repo_id = $1 AND digest = $2`
	sqlFsckReferences = `
		SELECT f.digest, f.is_manifest, f.required, l.digest IS NOT NULL OR m.digest IS NOT NULL
		FROM manifest_references f
		LEFT JOIN links l ON l.repo_id = f.repo_id AND l.digest = f.digest
		LEFT JOIN manifests m ON m.repo_id = f.repo_id AND m.digest = f.digest
		WHERE f.repo_id = $1 AND f.manifest = $2`
)

// manifestRow is a manifest as it is stored.
type manifestRow struct {
	repoID int64
	digest []byte
	repo   registry.Name
	name   registry.Digest // the digest, for people

	mediaType, artifactType string
	size                    int64
	subject, payload        []byte
	annotations             sql.NullString
}

// manifests checks each manifest against its own bytes.
func (k *fsck) manifests() error {
	last := manifestRow{digest: []byte{}}
	for {
		n, err := each(k, sqlFsckManifests, []any{last.repoID, last.digest, fsckPage},
			func(rows *sqldb.Rows, m *manifestRow) error {
				var repo sql.NullString
				err := rows.Scan(&m.repoID, &m.digest, &repo)
				m.repo = registry.Name(repo.String)
				return err
			},
			func(m manifestRow) error {
				last = m
				return k.manifest(m)
			})
		if err != nil || n < fsckPage {
			return err
		}
	}
}

func (k *fsck) manifest(m manifestRow) error {
	var err error
	if m.name, err = unpack(m.digest); err != nil {
		return k.report("I1", m.repo, "", "a manifest's digest is malformed: %x", m.digest)
	}
	if m.repo == "" {
		return k.report("I1", "", m.name, "the manifest belongs to a repository that does not exist (%d)", m.repoID)
	}
	err = k.c.db.QueryRow(k.ctx, sqlFsckManifest, m.repoID, m.digest).
		Scan(&m.mediaType, &m.size, &m.artifactType, &m.subject, &m.annotations, &m.payload)
	if err != nil {
		return fmt.Errorf("reading manifest %s of %s: %w", m.name, m.repo, err)
	}
	if m.name.Algorithm().FromBytes(m.payload) != m.name {
		return k.report("I1", m.repo, m.name, "the manifest's bytes do not hash to its digest")
	}
	info, err := registry.ParseManifest(m.mediaType, m.payload)
	if err != nil {
		return k.report("I1", m.repo, m.name, "the stored bytes are no manifest of type %s: %v", m.mediaType, err)
	}
	if m.size != int64(len(m.payload)) {
		if err := k.report("I1", m.repo, m.name, "the manifest has %d bytes, its row says %d", len(m.payload), m.size); err != nil {
			return err
		}
	}
	if err := k.referrerRow(m, info); err != nil {
		return err
	}
	return k.references(m, info)
}

// referrerRow compares what lists of referrers show with the manifest.
func (k *fsck) referrerRow(m manifestRow, info registry.ManifestInfo) error {
	subject, annotations, err := referrerColumns(info)
	if err != nil {
		return err
	}
	text, _ := annotations.(string)
	if string(m.subject) == string(subject) && m.artifactType == info.ArtifactType && m.annotations.String == text {
		return nil
	}
	return k.report("I8", m.repo, m.name, "the list of referrers does not show what the manifest says")
}

// reference is a row of the references of a manifest.
type reference struct {
	digest             []byte
	manifest, required bool
	known              bool
}

// references compares the stored references with the manifest, and looks for
// what they need.
func (k *fsck) references(m manifestRow, info registry.ManifestInfo) error {
	want := make(map[registry.Digest]registry.ManifestReference, len(info.References))
	for _, r := range info.References {
		want[r.Digest] = r
	}
	_, err := each(k, sqlFsckReferences, []any{m.repoID, m.digest},
		func(rows *sqldb.Rows, r *reference) error {
			return rows.Scan(&r.digest, &r.manifest, &r.required, &r.known)
		},
		func(r reference) error {
			d, err := unpack(r.digest)
			if err != nil {
				return k.report("I3", m.repo, m.name, "a reference is malformed: %x", r.digest)
			}
			w, ok := want[d]
			delete(want, d)
			switch {
			case !ok || w.Manifest != r.manifest:
				return k.report("I3", m.repo, m.name, "the manifest does not refer to %s as is recorded", d)
			case r.required && !r.known:
				return k.report("I3", m.repo, m.name, "the manifest needs %s, which the repository does not have", d)
			}
			return nil
		})
	if err != nil {
		return err
	}
	for _, r := range info.References {
		if _, lost := want[r.Digest]; !lost {
			continue
		}
		if err := k.report("I3", m.repo, m.name, "the manifest's reference to %s is not recorded", r.Digest); err != nil {
			return err
		}
	}
	return nil
}
