package metadata

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// FsckBlobs is the part of the blobstore that [Catalog.Fsck] compares with.
type FsckBlobs interface {
	registry.BlobReader
	registry.Reaper
}

// Fsck checks the invariants that the catalog and the blobstore keep together,
// and yields what is wrong with them, or an error that ends the check. Nothing
// may change meanwhile: it is for a store that serves nobody. It changes nothing
// and needs memory for a page of rows. deep reads every blob, too.
//
//   - I1: a manifest's bytes hash to its digest, a tag's manifest exists, the
//     database's own structure is whole.
//   - I3: what a manifest requires is known in its repository.
//   - I4: the last entry of a tag's history is its value.
//   - I5 (deep): a blob's bytes hash to its digest.
//   - I7: what nothing needs is queued to be looked at.
//   - I8: what lists of referrers show is what the manifests say.
//   - I10: what is counted for quotas is there.
//   - I12: each blob has its copy, of the right size; each copy is a blob's, or
//     queued for removal, or younger than a day.
func (c *Catalog) Fsck(ctx context.Context, blobs FsckBlobs, deep bool) iter.Seq2[registry.Finding, error] {
	return c.FsckSome(ctx, blobs, func(registry.Digest) bool { return deep })
}

// FsckSome is [Catalog.Fsck], which reads the blobs that read says.
func (c *Catalog) FsckSome(ctx context.Context, blobs FsckBlobs, read func(registry.Digest) bool) iter.Seq2[registry.Finding, error] {
	return func(yield func(registry.Finding, error) bool) {
		k := &fsck{c: c, ctx: ctx, blobs: blobs, read: read, yield: yield}
		for _, step := range []func() error{k.structure, k.manifests, k.tags, k.histories, k.unreachable, k.quotas, k.blobRows, k.copies} {
			err := step()
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(registry.Finding{}, fmt.Errorf("checking the store: %w", err))
				return
			}
		}
	}
}

// errEnough says that the caller wants no more findings.
var errEnough = errors.New("enough")

// fsckPage is how many rows are read at once.
const fsckPage = 500

// fsck is one run of [Catalog.Fsck].
type fsck struct {
	c     *Catalog
	ctx   context.Context // bounds the run
	blobs FsckBlobs
	read  func(registry.Digest) bool
	yield func(registry.Finding, error) bool
}

// report yields a finding. It returns errEnough if that was the last one wanted.
func (k *fsck) report(invariant string, repo registry.Name, d registry.Digest, problem string, args ...any) error {
	if !k.yield(registry.Finding{Invariant: invariant, Repo: repo, Digest: d, Problem: fmt.Sprintf(problem, args...)}, nil) {
		return errEnough
	}
	return nil
}

// structure lets the database check itself.
func (k *fsck) structure() error {
	for _, q := range k.c.db.Dialect().Integrity {
		_, err := each(k, q, nil, func(rows *sqldb.Rows, s *string) error { return rows.Scan(s) }, func(s string) error {
			if s == "ok" {
				return nil
			}
			return k.report("I1", "", "", "the database is damaged: %s", s)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each reads the rows of a query, then calls visit for each of them, so that
// visit may use the database. It returns how many there were.
func each[T any](k *fsck, query string, args []any, scan func(*sqldb.Rows, *T) error, visit func(T) error) (int, error) {
	page, err := readPage(k.ctx, k.c.db, query, args, scan)
	if err != nil {
		return 0, err
	}
	for _, row := range page {
		if err := visit(row); err != nil {
			return 0, err
		}
	}
	return len(page), nil
}

func readPage[T any](ctx context.Context, db *sqldb.DB, query string, args []any, scan func(*sqldb.Rows, *T) error) ([]T, error) {
	rows, err := db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []T
	for rows.Next() {
		var row T
		if err := scan(rows, &row); err != nil {
			return nil, err
		}
		page = append(page, row)
	}
	return page, rows.Err()
}
