package allinone

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/rpc"
)

// Store is a registry's store as a command reaches it.
type Store struct {
	Blobs   registry.Blobs // nil if only a metadata service could be reached
	Catalog registry.Catalog
	// Mirror is nil unless a process or a service could be reached that may have one.
	Mirror registry.Mirror
	// Scans is nil on the same condition.
	Scans registry.Scans
	// Running says that another process serves the store.
	Running bool
	close   []func() error
}

// Close ends the connections, or closes what was opened.
func (s *Store) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	return errors.Join(errs...)
}

// Reach returns the store that a config file describes, for a command: by the
// services the file has addresses of, or by the process of this machine that
// serves the store, or else the store itself, which no other process can use
// meanwhile unless it is in PostgreSQL and S3. A store that is not there is an
// error, and is not made.
func Reach(ctx context.Context, cfg *config.Config, parts Parts, log *slog.Logger) (_ *Store, err error) {
	s := new(Store)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if len(cfg.Services.Metadata.Address) > 0 {
		return s, s.dial(cfg, log)
	}
	if onDisk(cfg) {
		if err := s.control(ctx, cfg); err != nil || s.Running {
			return s, err
		}
	}
	return s, s.open(ctx, cfg, parts, log)
}

// control connects to the process of this machine that serves the store, if one
// does.
func (s *Store) control(ctx context.Context, cfg *config.Config) error {
	switch c, err := rpc.DialControl(ctx, cfg.Storage.RootDirectory); {
	case err == nil:
		s.Blobs, s.Catalog, s.Mirror, s.Scans, s.Running, s.close = c.Blobs, c.Catalog, c.Mirror, c.Scans, true, append(s.close, c.Close)
	case !errors.Is(err, rpc.ErrNoControl):
		return err
	}
	return nil
}

// onDisk reports whether a part of the store is below the root directory.
func onDisk(cfg *config.Config) bool {
	return cfg.Storage.Metadata.Driver == config.SQLite || cfg.Storage.Local() && len(cfg.Services.Blobstore.Address) == 0
}

// dial connects to the services.
func (s *Store) dial(cfg *config.Config, log *slog.Logger) error {
	security, err := rpc.Secure(cfg.Services, log)
	if err != nil {
		return err
	}
	o := rpc.DialOptions{Security: security}
	catalog, err := rpc.DialCatalog(cfg.Services.Metadata.Address, o)
	if err != nil {
		return err
	}
	s.Catalog, s.Running, s.close = catalog, true, append(s.close, catalog.Close)
	if len(cfg.Services.Syncer.Address) > 0 {
		mirror, err := rpc.DialMirror(cfg.Services.Syncer.Address, o)
		if err != nil {
			return err
		}
		s.Mirror, s.close = mirror, append(s.close, mirror.Close)
	}
	if len(cfg.Services.Scanner.Address) > 0 {
		scans, err := rpc.DialScans(cfg.Services.Scanner.Address, o)
		if err != nil {
			return err
		}
		s.Scans, s.close = scans, append(s.close, scans.Close)
	}
	if len(cfg.Services.Blobstore.Address) > 0 {
		blobs, err := rpc.DialBlobs(cfg.Services.Blobstore.Address, o)
		if err != nil {
			return err
		}
		s.Blobs, s.close = blobs, append(s.close, blobs.Close)
	}
	return nil
}

// open opens the store in this process.
func (s *Store) open(ctx context.Context, cfg *config.Config, parts Parts, log *slog.Logger) error {
	if err := storeExists(cfg); err != nil {
		return err
	}
	p := daemon.Process{Log: log}
	var blobs Blobs
	var err error
	if len(cfg.Services.Blobstore.Address) > 0 {
		var security *rpc.Security
		if security, err = rpc.Secure(cfg.Services, log); err == nil {
			blobs, err = dialBlobs(cfg.Services.Blobstore.Address, rpc.DialOptions{Security: security})
		}
	} else {
		blobs, err = parts.Blobs(ctx, cfg, p)
	}
	if err != nil {
		return err
	}
	s.Blobs, s.close = blobs, append(s.close, blobs.Close)
	var broken error // the fatal error of a database
	catalog, err := parts.Catalog(ctx, cfg, blobs, func(err error) { broken = err }, p)
	if err != nil {
		return err
	}
	s.Catalog = catalog
	s.close = append(s.close, func() error { return errors.Join(catalog.Close(), broken) })
	return nil
}

// storeExists returns an error if the config file describes a store on disk that
// is not there.
func storeExists(cfg *config.Config) error {
	if cfg.Storage.Local() || cfg.Storage.Metadata.Driver == config.SQLite {
		if _, err := os.Stat(filepath.Join(cfg.Storage.RootDirectory, ".berth")); err != nil {
			return fmt.Errorf("there is no store: %w", err)
		}
	}
	return nil
}
