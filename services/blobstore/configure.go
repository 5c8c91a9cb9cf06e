package blobstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// OpenPool opens the driver of one pool as the config file says.
type OpenPool func(ctx context.Context, p config.Pool) (Driver, error)

// Local is the driver name of a pool that has no storageDriver.
const Local = "local"

// OpenConfigured opens the store that the storage section of a config file
// describes. drivers are those that the program has in it, by the name in
// storageDriver; a pool that needs another is an error.
func OpenConfigured(ctx context.Context, cfg config.Storage, drivers map[string]OpenPool, p daemon.Process) (*Store, error) {
	pools := make(map[registry.Pool]Driver)
	open := func(name registry.Pool, p config.Pool) error {
		d, err := openDriver(ctx, p, drivers)
		if err != nil {
			return fmt.Errorf("pool %q: %w", name, err)
		}
		pools[name] = d
		return nil
	}
	err := open("", cfg.Pool)
	for name, sub := range cfg.SubPaths {
		if err == nil {
			err = open(registry.Pool(name), sub.Pool)
		}
	}
	var s *Store
	if err == nil {
		s, err = Open(ctx, pools, Options{Metrics: p.Metrics, Reserve: int64(cfg.Reserve), Low: cfg.Watermarks.Low, High: cfg.Watermarks.High}, p.Log)
	}
	if err != nil {
		for _, d := range pools {
			err = errors.Join(err, d.Close())
		}
		return nil, err
	}
	return s, nil
}

// OpenOne opens one pool of a config file by itself, as the default pool.
func OpenOne(ctx context.Context, p config.Pool, drivers map[string]OpenPool, log *slog.Logger) (*Store, error) {
	d, err := openDriver(ctx, p, drivers)
	if err != nil {
		return nil, err
	}
	s, err := Open(ctx, map[registry.Pool]Driver{"": d}, Options{}, log)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return s, nil
}

func openDriver(ctx context.Context, p config.Pool, drivers map[string]OpenPool) (Driver, error) {
	kind := Local
	if !p.Local() {
		kind = p.StorageDriver.Name()
	}
	if drivers[kind] == nil {
		return nil, fmt.Errorf("this program has no storage driver %q", kind)
	}
	return drivers[kind](ctx, p)
}
