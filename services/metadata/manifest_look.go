package metadata

import (
	"fmt"

	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlHasManifest = `SELECT 1 FROM manifests WHERE repo_id = $1 AND digest = $2`

	// By the repository's name, for what is asked together with its identity.
	sqlTagIn         = `SELECT digest FROM tags WHERE repo_id = (SELECT id FROM repositories WHERE name = $1) AND name = $2`
	sqlHasManifestOf = `SELECT 1 FROM manifests WHERE repo_id = (SELECT id FROM repositories WHERE name = $1) AND digest = $2`
	// And whether it was fetched, and nobody has pushed it.
	sqlKnownManifest = `
		SELECT (SELECT 1 FROM cached_manifests c WHERE c.repo_id = m.repo_id AND c.digest = m.digest) IS NOT NULL
		FROM manifests m WHERE m.repo_id = (SELECT id FROM repositories WHERE name = $1) AND m.digest = $2`
)

// found is what the database knows before a put.
type found struct {
	repo     int64    // 0 if there is no such repository
	tags     [][]byte // what each tag points to, nil if there is no such tag
	manifest bool
	fetched  bool             // and it is cached content
	content  bool             // the repository has a manifest; true if nobody counts
	cached   bool             // something the manifest refers to is cached content
	sizes    map[string]int64 // of what the manifest refers to, by stored digest
}

// look asks for all that the operation depends on, but for content that is not
// where it probably is.
func (p *put) look(tx *sqldb.Tx) (*found, error) {
	f := &found{tags: make([][]byte, len(p.tags)), sizes: make(map[string]int64, len(p.refs))}
	repo := string(p.repo)
	all := []sqldb.Statement{
		{Text: sqlRepo, Args: []any{repo}, Row: func(scan func(dest ...any) error) error { return scan(&f.repo) }},
		{Text: sqlKnownManifest, Args: []any{repo, p.digest}, Row: func(scan func(dest ...any) error) error { f.manifest = true; return scan(&f.fetched) }},
	}
	if f.content = p.c.limits().MaxRepos == 0; !f.content {
		all = append(all, sqldb.Statement{Text: sqlHasContentOf, Args: []any{repo}, Row: func(func(dest ...any) error) error { f.content = true; return nil }})
	}
	for i, t := range p.tags {
		all = append(all, sqldb.Statement{Text: sqlTagIn, Args: []any{repo, string(t)}, Row: func(scan func(dest ...any) error) error {
			return scan(&f.tags[i])
		}})
	}
	if err := tx.Run(append(all, p.lookFor(p.tables()[0], f)...)...); err != nil {
		return nil, fmt.Errorf("looking for what a manifest needs: %w", err)
	}
	return f, nil
}

// tables are those that may know what the manifest refers to, the probable one
// first.
func (p *put) tables() []string {
	if len(p.refs) > 0 && p.refs[0].Manifest {
		return []string{"manifests", "links"}
	}
	return []string{"links", "manifests"}
}

// lookFor asks a table for the sizes of references that are not found yet.
func (p *put) lookFor(table string, f *found) []sqldb.Statement {
	var list []any
	for _, r := range p.refs {
		if _, ok := f.sizes[string(r.packed)]; !ok {
			list = append(list, r.packed)
		}
	}
	var all []sqldb.Statement
	_ = sqldb.Padded(list, func(part []any) error { // which fails only if this does
		all = append(all, sqldb.Statement{
			Text: sqlKnown(table, len(part)), Args: append([]any{string(p.repo)}, part...),
			Row: func(scan func(dest ...any) error) error {
				var d []byte
				var size int64
				var cached int
				if err := scan(&d, &size, &cached); err != nil {
					return err
				}
				f.sizes[string(d)] = size
				f.cached = f.cached || cached != blobPushed
				return nil
			},
		})
		return nil
	})
	return all
}

func sqlKnown(table string, n int) string {
	from := "SELECT m.digest, m.size, CASE WHEN c.rank IS NULL THEN 0 ELSE 1 END FROM manifests m LEFT JOIN cached_manifests c ON c.repo_id = m.repo_id AND c.digest = m.digest WHERE m.repo_id = (SELECT id FROM repositories WHERE name = $1) AND m.digest"
	if table == "links" {
		from = "SELECT l.digest, b.size, b.cached FROM links l JOIN blobs b ON b.pool = l.pool AND b.digest = l.digest WHERE l.repo_id = (SELECT id FROM repositories WHERE name = $1) AND l.digest"
	}
	return from + " IN (" + sqldb.Placeholders(2, n) + ")"
}
