package sqlite

import (
	"context"
	"log/slog"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// OpenConfigured is the metadata.OpenDB of a database in the storage root.
func OpenConfigured(ctx context.Context, cfg config.Storage, fatal func(error), _ *slog.Logger) (*sqldb.DB, error) {
	return Open(ctx, cfg.RootDirectory, fatal)
}
