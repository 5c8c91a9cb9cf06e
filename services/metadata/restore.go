package metadata

import (
	"context"
	"fmt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb"
)

// DropUnlinked removes from a database that nobody serves the blobs that no
// repository has, and what is queued to be removed: a copy of a catalog has no
// copies of these.
func DropUnlinked(ctx context.Context, db *sqldb.DB) error {
	err := db.Write(ctx, func(tx *sqldb.Tx) error {
		return execAll(tx,
			step{`DELETE FROM blobs WHERE NOT EXISTS (SELECT 1 FROM links l WHERE l.digest = blobs.digest AND l.pool = blobs.pool)`, nil},
			step{`DELETE FROM reviews WHERE kind = 3`, nil},
			step{`UPDATE blobs SET state = 0, epoch = epoch + 1 WHERE state <> 0`, nil},
			step{`DELETE FROM garbage`, nil},
			step{`DELETE FROM strays`, nil},
			step{`DELETE FROM sweeps`, nil})
	})
	if err != nil {
		return fmt.Errorf("dropping blobs that no repository has: %w", err)
	}
	return nil
}

// PoolsIn returns the pools in which a catalog has blobs.
func PoolsIn(ctx context.Context, db *sqldb.DB) ([]registry.Pool, error) {
	return readPage(ctx, db, `SELECT DISTINCT pool FROM blobs WHERE inline IS NULL ORDER BY pool`, nil,
		func(rows *sqldb.Rows, p *registry.Pool) error { return rows.Scan(p) })
}
