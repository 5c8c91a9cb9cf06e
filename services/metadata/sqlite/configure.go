package sqlite

import (
	"context"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/sqldb"
)

// OpenConfigured is the metadata.OpenDB of a database in the storage root.
func OpenConfigured(ctx context.Context, cfg config.Storage, fatal func(error)) (*sqldb.DB, error) {
	return Open(ctx, cfg.RootDirectory, fatal)
}
