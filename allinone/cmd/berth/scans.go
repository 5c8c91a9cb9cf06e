package main

import (
	"context"

	"github.com/berth-registry/berth/allinone"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/scanner"
)

// scans returns the constructor of a scanner with the given database drivers. It is
// here so that no other program has a scanner in it.
func scans(databases map[string]scanner.OpenDB) func(context.Context, *config.Config, registry.Blobs, registry.Catalog, func(error), daemon.Process) (allinone.Scans, error) {
	return func(ctx context.Context, cfg *config.Config, blobs registry.Blobs, catalog registry.Catalog, fatal func(error), p daemon.Process) (allinone.Scans, error) {
		s, err := scanner.OpenConfigured(ctx, cfg, databases, blobs, catalog, fatal, p)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}
