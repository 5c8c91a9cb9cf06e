package metadata

import (
	"bytes"
	"database/sql"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlFsckTags = `
		SELECT t.repo_id, t.name, t.digest, COALESCE(r.name, g.name), m.digest IS NOT NULL,
			(SELECT h.digest FROM tag_history h WHERE h.repo_id = t.repo_id AND h.name = t.name ORDER BY h.number DESC LIMIT 1)
		FROM tags t
		LEFT JOIN repositories r ON r.id = t.repo_id
		LEFT JOIN deleted_repositories g ON g.id = t.repo_id
		LEFT JOIN manifests m ON m.repo_id = t.repo_id AND m.digest = t.digest
		WHERE (t.repo_id, t.name) > ($1, $2) ORDER BY t.repo_id, t.name LIMIT $3`

	// The first tag with a history behind ($1, $2), its value and last entry, and
	// whether its repository was deleted.
	sqlFsckHistory = `
		SELECT n.repo_id, n.name, r.name, g.id IS NOT NULL,
			(SELECT t.digest FROM tags t WHERE t.repo_id = n.repo_id AND t.name = n.name),
			(SELECT h.digest FROM tag_history h WHERE h.repo_id = n.repo_id AND h.name = n.name ORDER BY h.number DESC LIMIT 1)
		FROM (SELECT repo_id, name FROM tag_history WHERE (repo_id, name) > ($1, $2) ORDER BY repo_id, name, number LIMIT 1) n
		LEFT JOIN repositories r ON r.id = n.repo_id
		LEFT JOIN deleted_repositories g ON g.id = n.repo_id`
)

// tagRow is a tag as it is stored.
type tagRow struct {
	repoID     int64
	name       string
	digest     []byte         // nil if there is no such tag
	repo       sql.NullString // NULL if there is no such repository
	hasContent bool           // the manifest exists
	history    []byte         // the last entry, nil if it says removed, or is missing
	emptied    bool           // the repository was deleted: its tags go a few at a time, and no history tells of that
}

// tags checks that each tag's manifest exists and that its history agrees.
func (k *fsck) tags() error {
	var last tagRow
	for {
		n, err := each(k, sqlFsckTags, []any{last.repoID, last.name, fsckPage},
			func(rows *sqldb.Rows, t *tagRow) error {
				return rows.Scan(&t.repoID, &t.name, &t.digest, &t.repo, &t.hasContent, &t.history)
			},
			func(t tagRow) error {
				last = t
				return k.tag(t)
			})
		if err != nil || n < fsckPage {
			return err
		}
	}
}

func (k *fsck) tag(t tagRow) error {
	repo := registry.Name(t.repo.String)
	d, err := unpack(t.digest)
	if err != nil {
		return k.report("I1", repo, "", "tag %s points to a malformed digest %x", t.name, t.digest)
	}
	if !t.repo.Valid {
		return k.report("I1", "", d, "tag %s belongs to a repository that does not exist (%d)", t.name, t.repoID)
	}
	if !t.hasContent {
		if err := k.report("I1", repo, d, "tag %s points to a manifest that does not exist", t.name); err != nil {
			return err
		}
	}
	if !bytes.Equal(t.digest, t.history) {
		return k.report("I4", repo, d, "the last entry in the history of tag %s is not what it points to", t.name)
	}
	return nil
}

// histories looks for tags that are gone without an entry that says so.
func (k *fsck) histories() error {
	var last tagRow
	for {
		n, err := each(k, sqlFsckHistory, []any{last.repoID, last.name},
			func(rows *sqldb.Rows, t *tagRow) error {
				return rows.Scan(&t.repoID, &t.name, &t.repo, &t.emptied, &t.digest, &t.history)
			},
			func(t tagRow) error {
				last = t
				if t.digest == nil && t.history != nil && !t.emptied {
					return k.report("I4", registry.Name(t.repo.String), "", "tag %s does not exist, and its history does not say that it was removed", t.name)
				}
				return nil
			})
		if err != nil || n == 0 {
			return err
		}
	}
}
