package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"modernc.org/sqlite"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// OpenSyncer opens the syncer's own database in the storage root: .berth/syncer.db,
// with a lock of its own. It holds nothing that could not be found out again but
// which rules are paused and which repositories were pushed to, so an empty one is
// made where there is none.
func OpenSyncer(ctx context.Context, cfg config.Storage, fatal func(error), _ *slog.Logger) (*sqldb.DB, error) {
	if cfg.RootDirectory == "" {
		return nil, errors.New("storage.rootDirectory: needed: the syncer's database is there")
	}
	dir := filepath.Join(cfg.RootDirectory, ".berth")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the syncer's database: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "syncer.lock"))
	if err != nil {
		return nil, fmt.Errorf("opening the syncer's database in %s: %w", dir, err)
	}
	file := filepath.Join(dir, "syncer.db")
	db, err := openOwn(ctx, dir, file, sqldb.Options{Dialect: dialect(), Fatal: fatal, Release: unlock})
	if err != nil {
		return nil, fmt.Errorf("opening the syncer's database in %s: %w", dir, errors.Join(err, unlock()))
	}
	return db, nil
}

// openOwn opens the database of a service that has one of its own.
func openOwn(ctx context.Context, dir, file string, o sqldb.Options) (*sqldb.DB, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Close(), syncDir(dir)); err != nil {
		return nil, err
	}
	sqlite.Fdatasync(true)
	o.Dialect.Free = func() (int64, error) { return free(dir) }
	return Engine{Pool: pool, SyncDir: syncDir, Renew: renew}.Open(ctx, file, o)
}
