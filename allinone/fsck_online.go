package allinone

import (
	"context"
	"errors"
	"iter"
	"log/slog"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
)

// checkOnline checks a store while it is served: copies of its catalog, each as it
// was at one moment, against its bytes. What changed between the moment and the look
// is in the first of two copies and not in the second: only what both have is
// reported.
func checkOnline(ctx context.Context, cfg *config.Config, parts Parts, read subset, log *slog.Logger, report func(registry.Finding) error) (n int, err error) {
	store, err := Reach(ctx, cfg, parts, log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.Blobs == nil {
		return 0, errors.New("the config file does not say where the blobstore is (services.blobstore.address)")
	}
	first := map[registry.Finding]bool{}
	err = checkCopy(ctx, cfg, parts, store, read, log, func(f registry.Finding) error {
		first[f] = true
		return nil
	})
	if err != nil || len(first) == 0 {
		return 0, err
	}
	err = checkCopy(ctx, cfg, parts, store, read, log, func(f registry.Finding) error {
		if !first[f] {
			return nil
		}
		n++
		return report(f)
	})
	return n, err
}

// checkCopy checks a copy of the catalog as it is now.
func checkCopy(ctx context.Context, cfg *config.Config, parts Parts, store *Store, read subset, log *slog.Logger, report func(registry.Finding) error) (err error) {
	copied, err := newAside(ctx, cfg, parts, log, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, copied.remove()) }()
	if err := copied.take(ctx, store.Catalog); err != nil {
		return err
	}
	at := *cfg
	at.Storage.RootDirectory, at.Storage.Metadata = copied.dir, config.Metadata{Driver: config.SQLite}
	catalog, err := parts.Catalog(ctx, &at, nil, func(err error) { copied.broken = err }, daemon.Process{Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, catalog.Close()) }()
	c, ok := catalog.(catalogChecker)
	if !ok {
		return registry.ErrUnsupported
	}
	_, err = each(c.FsckSome(ctx, store.Blobs, read.has), report)
	return err
}

// each hands findings to report, and returns how many there were.
func each(findings iter.Seq2[registry.Finding, error], report func(registry.Finding) error) (n int, err error) {
	for f, err := range findings {
		if err != nil {
			return n, err
		}
		n++
		if err := report(f); err != nil {
			return n, err
		}
	}
	return n, nil
}
