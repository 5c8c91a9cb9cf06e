package sqlite

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// OpenScanner opens the scanner's own database in the storage root: .berth/scanner.db,
// with a lock of its own. It holds nothing that could not be found out again, so an
// empty one is made where there is none.
func OpenScanner(ctx context.Context, cfg config.Storage, fatal func(error), _ *slog.Logger) (*sqldb.DB, error) {
	if cfg.RootDirectory == "" {
		return nil, errors.New("storage.rootDirectory: needed: the scanner's database is there")
	}
	dir := filepath.Join(cfg.RootDirectory, ".berth")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the scanner's database: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "scanner.lock"))
	if err != nil {
		return nil, fmt.Errorf("opening the scanner's database in %s: %w", dir, err)
	}
	file := filepath.Join(dir, "scanner.db")
	db, err := openOwn(ctx, dir, file, sqldb.Options{Dialect: dialect(), Fatal: fatal, Release: unlock})
	if err != nil {
		return nil, fmt.Errorf("opening the scanner's database in %s: %w", dir, errors.Join(err, unlock()))
	}
	return db, nil
}
