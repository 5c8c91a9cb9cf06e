package allinone

import (
	"context"
	"log/slog"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/metadata"
)

// Stores returns the constructors of a blobstore and a catalog that have the
// given drivers in them, by the names that the config file uses.
func Stores(pools map[string]blobstore.OpenPool, databases metadata.Drivers) Parts {
	return Parts{
		Conditions: databases.Conditions,
		Blobs: func(ctx context.Context, cfg *config.Config, p daemon.Process) (Blobs, error) {
			s, err := blobstore.OpenConfigured(ctx, cfg.Storage, pools, p)
			if err != nil {
				return nil, err // not s: a nil *Store is no nil Blobs
			}
			return s, nil
		},
		Catalog: func(ctx context.Context, cfg *config.Config, blobs registry.Reaper, fatal func(error), p daemon.Process) (Catalog, error) {
			s, err := metadata.OpenConfigured(ctx, cfg, databases, blobs, fatal, p)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Database: func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error) {
			return metadata.OpenDatabase(ctx, cfg, databases.Databases, fatal, log)
		},
		Pool: func(ctx context.Context, p config.Pool, log *slog.Logger) (Blobs, error) {
			s, err := blobstore.OpenOne(ctx, p, pools, log)
			if err != nil {
				return nil, err
			}
			return s, nil
		},
	}
}
