package allinone

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/services/syncer"
)

// Mirrors returns the constructor of a syncer that has the given parts in it.
func Mirrors(parts syncer.Parts) func(context.Context, *config.Config, registry.Blobs, registry.Catalog, func(error), daemon.Process) (Mirror, error) {
	return func(ctx context.Context, cfg *config.Config, blobs registry.Blobs, catalog registry.Catalog, fatal func(error), p daemon.Process) (Mirror, error) {
		if cfg.Services.Syncer.Listen != "" && cfg.Storage.Metadata.Driver != config.SQLite {
			security, err := rpc.Secure(cfg.Services, p.Log)
			if err != nil {
				return nil, err
			}
			dial := rpc.DialOptions{Security: security, Metrics: p.Metrics}
			parts.Dial = func(address string) (syncer.Peer, error) { return rpc.DialMirror([]string{address}, dial) }
		}
		s, err := syncer.OpenConfigured(ctx, cfg, parts, blobs, catalog, fatal, p)
		if err != nil {
			return nil, err
		}
		return s, nil
	}
}

// linkMirror returns the syncer, if the config file has rules for one or says where
// it is. It is nil, not a nil pointer, if there is none.
func linkMirror(ctx context.Context, cfg *config.Config, parts Parts, blobs registry.Blobs, catalog registry.Catalog, dial rpc.DialOptions, p daemon.Process) (registry.Mirror, []daemon.Unit, error) {
	if addresses := cfg.Services.Syncer.Address; len(addresses) > 0 {
		m, err := rpc.DialMirror(addresses, dial)
		if err != nil {
			return nil, nil, err
		}
		return m, []daemon.Unit{daemon.Closer("connection to the syncer", m.Close)}, nil
	}
	if !syncer.Wanted(cfg) {
		return nil, nil, nil
	}
	if parts.Mirror == nil {
		return nil, nil, errors.New("extensions.sync: this program has no syncer in it")
	}
	fatal, doom := daemon.Fatal("syncer's database")
	m, err := parts.Mirror(ctx, cfg, blobs, catalog, doom, p.For("syncer"))
	if err != nil {
		return nil, nil, err
	}
	return m, []daemon.Unit{daemon.Closer("syncer", m.Close), fatal}, nil
}
