package allinone

import (
	"context"
	"errors"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
)

// linkScans returns the scanner, if the config file wants one or says where it is. It
// is nil, not a nil pointer, if there is none.
func linkScans(ctx context.Context, cfg *config.Config, parts Parts, blobs registry.Blobs, catalog registry.Catalog, dial rpc.DialOptions, p daemon.Process) (registry.Scans, []daemon.Unit, error) {
	if addresses := cfg.Services.Scanner.Address; len(addresses) > 0 {
		s, err := rpc.DialScans(addresses, dial)
		if err != nil {
			return nil, nil, err
		}
		return s, []daemon.Unit{daemon.Closer("connection to the scanner", s.Close)}, nil
	}
	if cfg.Extensions.Scanning() == nil {
		return nil, nil, nil
	}
	if parts.Scans == nil {
		return nil, nil, errors.New("extensions.search.cve: this program has no scanner in it: remove the block, or run berth, or berth-scanner beside it with its address in services.scanner.address")
	}
	fatal, doom := daemon.Fatal("scanner's database")
	s, err := parts.Scans(ctx, cfg, blobs, catalog, doom, p.For("scanner"))
	if err != nil {
		return nil, nil, err
	}
	return s, []daemon.Unit{daemon.Closer("scanner", s.Close), fatal}, nil
}
