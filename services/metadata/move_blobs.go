package metadata

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

const (
	sqlMoveBlobs = `
		SELECT digest, size, locator FROM blobs
		WHERE pool = $1 AND digest > $2 AND inline IS NULL ORDER BY digest LIMIT $3`
	sqlMoveTotal = `SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs WHERE pool = $1 AND inline IS NULL`
	sqlMovedBlob = `SELECT old_locator FROM moved_blobs WHERE pool = $1 AND digest = $2`
	sqlAddMoved  = `
		INSERT INTO moved_blobs (pool, digest, old_locator, locator) VALUES ($1, $2, $3, $4)
		ON CONFLICT (pool, digest) DO UPDATE SET old_locator = excluded.old_locator, locator = excluded.locator`
)

// movePage is how many rows of blobs are read at once.
const movePage = 1000

// blobMover copies the blobs of a move.
type blobMover struct {
	*Move
	mu       sync.Mutex // guards all below, and calls of Found and Progress
	progress MoveProgress
	damaged  bool
}

// copyBlobs copies every blob that has not been copied yet.
func (m *Move) copyBlobs(ctx context.Context) error {
	b := &blobMover{Move: m}
	for pool := range m.Pools {
		var blobs, bytes int64
		if err := m.From.QueryRow(ctx, sqlMoveTotal, string(pool)).Scan(&blobs, &bytes); err != nil {
			return err
		}
		b.progress.AllBlobs += blobs
		b.progress.AllBytes += bytes
	}
	for pool := range m.Pools {
		if err := b.copyPool(ctx, pool); err != nil {
			return err
		}
	}
	if b.damaged && !m.KeepDamaged {
		return errDamaged
	}
	return nil
}

func (b *blobMover) copyPool(ctx context.Context, pool registry.Pool) error {
	after := []byte{}
	for {
		page, err := b.page(ctx, pool, after)
		if err != nil {
			return err
		}
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(max(1, b.Workers))
		for _, row := range page {
			g.Go(func() error { return b.copyBlob(ctx, pool, row) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
		if len(page) < movePage {
			return nil
		}
		after = page[len(page)-1].packed
	}
}

// page returns the blobs of a pool behind after, in the order of their digests.
func (b *blobMover) page(ctx context.Context, pool registry.Pool, after []byte) ([]blobRow, error) {
	rows, err := b.From.Query(ctx, sqlMoveBlobs, string(pool), after, movePage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []blobRow
	for rows.Next() {
		var r blobRow
		if err := rows.Scan(&r.packed, &r.Size, &r.Locator); err != nil {
			return nil, err
		}
		if r.Digest, err = unpack(r.packed); err != nil {
			return nil, err
		}
		page = append(page, r)
	}
	return page, rows.Err()
}

func (b *blobMover) copyBlob(ctx context.Context, pool registry.Pool, row blobRow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var old registry.Locator
	err := b.To.QueryRow(ctx, sqlMovedBlob, string(pool), row.packed).Scan(&old)
	switch {
	case err == nil && old == row.Locator:
		b.count(row.Size)
		return nil
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	}
	moved, err := b.Pools[pool](ctx, row.Stored)
	switch {
	case errors.Is(err, registry.ErrBlobUnknown):
		b.found(pool, row, "I12", "its copy %s is missing or has not %d bytes", row.Locator, row.Size)
	case errors.Is(err, registry.ErrDigestInvalid):
		b.found(pool, row, "I5", "the bytes of its copy %s do not hash to its digest", row.Locator)
	case err != nil:
		return fmt.Errorf("%s: %w", row.Digest, err)
	default:
		if err := b.note(ctx, pool, row, moved.Locator); err != nil {
			return err
		}
		b.count(row.Size)
		return nil
	}
	if !b.KeepDamaged {
		return nil // on to the next: one run names them all
	}
	return b.note(ctx, pool, row, row.Locator)
}

// note records that the copy of a blob lies at l.
func (b *blobMover) note(ctx context.Context, pool registry.Pool, row blobRow, l registry.Locator) error {
	return b.To.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(sqlAddMoved, string(pool), row.packed, string(row.Locator), string(l))
		return err
	})
}

func (b *blobMover) found(pool registry.Pool, row blobRow, invariant, problem string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.damaged = true
	if b.Found != nil {
		problem = fmt.Sprintf("pool %q: "+problem, append([]any{pool}, args...)...)
		b.Found(registry.Finding{Invariant: invariant, Digest: row.Digest, Problem: problem})
	}
}

func (b *blobMover) count(size int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress.Blobs++
	b.progress.Bytes += size
	if b.Progress != nil {
		b.Progress(b.progress)
	}
}
