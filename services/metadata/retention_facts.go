package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/metadata/retention"
)

const (
	// A tag is as young as its last change, or as its manifest if that was pushed
	// again after it had gone.
	sqlTagFacts = `
		SELECT t.name, t.digest, m.pushed,
			COALESCE((SELECT h.at FROM tag_history h WHERE h.repo_id = t.repo_id AND h.name = t.name ORDER BY h.number DESC LIMIT 1), 0),
			COALESCE((SELECT MAX(p.at) FROM pulls p WHERE p.repo_id = t.repo_id AND p.digest = t.digest), 0)
		FROM tags t JOIN manifests m ON m.repo_id = t.repo_id AND m.digest = t.digest
		WHERE t.repo_id = $1 AND t.name > $2 ORDER BY t.name LIMIT $3`

	sqlManifestFacts = `
		SELECT m.digest, m.pushed, m.subject,
			COALESCE((SELECT 1 FROM tags t WHERE t.repo_id = m.repo_id AND t.digest = m.digest LIMIT 1),
				(SELECT 1 FROM manifest_references f WHERE f.repo_id = m.repo_id AND f.digest = m.digest LIMIT 1)) IS NOT NULL,
			m.subject IS NOT NULL AND (SELECT 1 FROM manifests s WHERE s.repo_id = m.repo_id AND s.digest = m.subject) IS NULL,
			COALESCE((SELECT MAX(p.at) FROM pulls p WHERE p.repo_id = m.repo_id AND p.digest = m.digest), 0)
		FROM manifests m WHERE m.repo_id = $1 AND m.digest > $2 ORDER BY m.digest LIMIT $3`

	sqlManifestFact = `
		SELECT m.digest, m.pushed, m.subject,
			COALESCE((SELECT 1 FROM tags t WHERE t.repo_id = m.repo_id AND t.digest = m.digest LIMIT 1),
				(SELECT 1 FROM manifest_references f WHERE f.repo_id = m.repo_id AND f.digest = m.digest LIMIT 1)) IS NOT NULL,
			m.subject IS NOT NULL AND (SELECT 1 FROM manifests s WHERE s.repo_id = m.repo_id AND s.digest = m.subject) IS NULL,
			COALESCE((SELECT MAX(p.at) FROM pulls p WHERE p.repo_id = m.repo_id AND p.digest = m.digest), 0)
		FROM manifests m WHERE m.repo_id = $1 AND m.digest = $2`
)

// factsPage is how many rows are read at once.
const factsPage = 1000

// tagImages returns what retention has to know of all tags of a repository.
func (c *Catalog) tagImages(ctx context.Context, id int64, repo registry.Name) ([]retention.Image, error) {
	var all []retention.Image
	for last := ""; ; {
		n, err := c.page(ctx, sqlTagFacts, []any{id, last, factsPage}, func(rows *sqldb.Rows) error {
			var m retention.Image
			var packed []byte
			var set int64
			if err := rows.Scan(&last, &packed, &m.Pushed, &set, &m.Pulled); err != nil {
				return err
			}
			var err error
			if m.Digest, err = unpack(packed); err != nil {
				return err
			}
			m.Tag, m.Pushed = registry.Tag(last), max(m.Pushed, set)
			m.Immutable = c.limits().immutable(repo, m.Tag)
			m.Subject = retention.SubjectOf(m.Tag)
			all = append(all, m)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("reading what is known of tags: %w", err)
		}
		if n < factsPage {
			break
		}
	}
	for i := range all {
		m := &all[i]
		if m.Subject == "" {
			continue
		}
		packed, err := pack(m.Subject)
		if err != nil {
			return nil, err
		}
		there, err := exists(c.db.QueryRow(ctx, sqlHasManifest, id, packed))
		if err != nil {
			return nil, err
		}
		m.SubjectGone = !there
	}
	return all, nil
}

// untaggedImages returns the same of the manifests that no tag and no index
// needs.
func (c *Catalog) untaggedImages(ctx context.Context, id int64) ([]retention.Image, error) {
	var all []retention.Image
	for last := []byte{}; ; {
		n, err := c.page(ctx, sqlManifestFacts, []any{id, last, factsPage}, func(rows *sqldb.Rows) error {
			return scanUntagged(rows.Scan, &last, &all)
		})
		if err != nil {
			return nil, fmt.Errorf("reading what is known of manifests: %w", err)
		}
		if n < factsPage {
			return all, nil
		}
	}
}

// scanUntagged reads a row about a manifest and adds it unless it is needed.
func scanUntagged(scan func(dest ...any) error, digest *[]byte, all *[]retention.Image) error {
	var m retention.Image
	var subject []byte
	var needed bool
	if err := scan(digest, &m.Pushed, &subject, &needed, &m.SubjectGone, &m.Pulled); err != nil || needed {
		return err
	}
	var err error
	if m.Digest, err = unpack(*digest); err != nil {
		return err
	}
	if subject != nil {
		if m.Subject, err = unpack(subject); err != nil {
			return err
		}
	}
	*all = append(*all, m)
	return nil
}

// page calls visit for each row of a query and returns how many there were.
func (c *Catalog) page(ctx context.Context, query string, args []any, visit func(*sqldb.Rows) error) (n int, err error) {
	rows, err := c.db.Query(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		n++
		if err := visit(rows); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}
