// Package allinone links the services of Berth into one process.
package allinone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"google.golang.org/grpc"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/rpc/rest"
	"github.com/berth-registry/berth/registry/sqldb"
	"github.com/berth-registry/berth/registry/transfer"
	"github.com/berth-registry/berth/services/gateway"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// Parts are the services that a program has in it, each as the function that
// opens it. The programs differ in nothing else.
type Parts struct {
	Blobs   func(ctx context.Context, cfg *config.Config, p daemon.Process) (Blobs, error)
	Catalog func(ctx context.Context, cfg *config.Config, blobs registry.Reaper, fatal func(error), p daemon.Process) (Catalog, error)
	// Mirror opens what fetches from other registries. nil if the program has none.
	Mirror func(ctx context.Context, cfg *config.Config, blobs registry.Blobs, catalog registry.Catalog, fatal func(error), p daemon.Process) (Mirror, error)
	// Scans opens what scans images. nil if the program has none.
	Scans func(ctx context.Context, cfg *config.Config, blobs registry.Blobs, catalog registry.Catalog, fatal func(error), p daemon.Process) (Scans, error)
	// Conditions compiles those of access rules, for commands. nil: there may be none.
	Conditions access.Compiler
	// Database and Pool open what is below a catalog and a blobstore, for commands.
	Database func(ctx context.Context, cfg config.Storage, fatal func(error), log *slog.Logger) (*sqldb.DB, error)
	Pool     func(ctx context.Context, p config.Pool, log *slog.Logger) (Blobs, error)
	// Tree opens what another registry keeps in a bucket, for import. nil if the program
	// has no driver for such.
	Tree func(ctx context.Context, p config.Pool) (transfer.Files, error)
	// ExaminePool and ExamineDatabase look at a bucket and at a database server, for
	// doctor. nil if the program has no driver for such.
	ExaminePool     func(key string, p config.Pool) doctor.Check
	ExamineDatabase func(cfg config.Storage) doctor.Check
	// Methods are the ways to authenticate that not every program has.
	Methods auth.Parts
	// Search makes what answers queries for images. nil if the program has none.
	Search gateway.NewSearch
	// Reflect adds reflection to a gRPC server. nil if the program has none in it.
	Reflect func(*grpc.Server)
}

// Blobs is a blobstore in this process, or a connection to one.
type Blobs interface {
	registry.Blobs
	io.Closer
}

// Catalog is a catalog in this process, or a connection to one.
type Catalog interface {
	registry.Catalog
	io.Closer
}

// Mirror is a syncer in this process, or a connection to one.
type Mirror interface {
	registry.Mirror
	io.Closer
}

// Scans is a scanner in this process, or a connection to one.
type Scans interface {
	registry.Scans
	io.Closer
}

// Link builds every service in this process, or dials it if the config file
// says where it is, and hands each the others. It is the graph that the split
// programs make with addresses.
func Link(ctx context.Context, cfg *config.Config, parts Parts, p daemon.Process) (_ []daemon.Unit, err error) {
	var units []daemon.Unit // started in this order, stopped in the reverse
	defer func() {
		if err != nil {
			err = errors.Join(err, daemon.Abandon(units))
		}
	}()

	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return nil, err
	}
	dial, serve := rpc.DialOptions{Security: security, Metrics: p.Metrics}, rpc.ServerOptions{Security: security, Log: p.Log, Metrics: p.Metrics, Traces: p.Traces}
	if cfg.Services.Reflection {
		if serve.Reflect = parts.Reflect; serve.Reflect == nil {
			return nil, errors.New("services.reflection: this program can't do it; berth, berth-metadata and berth-blobstore can")
		}
	}

	blobs, err := near(cfg.Services.Blobstore, dial, dialBlobs, func() (Blobs, error) {
		return parts.Blobs(ctx, cfg, p.For("blobstore"))
	})
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("blobstore", blobs.Close))

	fatal, doom := daemon.Fatal("metadata")
	catalog, err := near(cfg.Services.Metadata, dial, dialCatalog, func() (Catalog, error) {
		return parts.Catalog(ctx, cfg, blobs, doom, p.For("metadata"))
	})
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("metadata", catalog.Close), fatal)
	file, closer, err := auditlog.Open(cfg.Log.Audit, p.Rotated)
	if err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	units = append(units, daemon.Closer("log.audit of calls", closer.Close))
	serve.Audit = auditlog.Both(file, catalog)

	mirror, more, err := linkMirror(ctx, cfg, parts, blobs, catalog, dial, p)
	if err != nil {
		return nil, err
	}
	units = append(units, more...)

	scans, more, err := linkScans(ctx, cfg, parts, blobs, catalog, dial, p)
	if err != nil {
		return nil, err
	}
	units = append(units, more...)

	// Clients inside the installation may use the services of this process, too.
	if s := cfg.Services.Blobstore; s.Listen != "" && len(s.Address) == 0 {
		unit, err := rpc.BlobsUnit(ctx, s.Listen, blobs, serve)
		if err != nil {
			return nil, err
		}
		units = append(units, unit)
	}
	if s := cfg.Services.Metadata; s.Listen != "" && len(s.Address) == 0 {
		unit, err := rpc.CatalogUnit(ctx, s.Listen, catalog, serve)
		if err != nil {
			return nil, err
		}
		units = append(units, unit)
	}

	if s := cfg.Services.Syncer; mirror != nil && s.Listen != "" && len(s.Address) == 0 {
		unit, err := rpc.MirrorUnit(ctx, s.Listen, mirror, catalog, serve)
		if err != nil {
			return nil, err
		}
		units = append(units, unit)
	}

	if s := cfg.Services.Scanner; scans != nil && s.Listen != "" && len(s.Address) == 0 {
		unit, err := rpc.ScansUnit(ctx, s.Listen, scans, catalog, serve)
		if err != nil {
			return nil, err
		}
		units = append(units, unit)
	}

	if len(cfg.Services.Metadata.Address) == 0 && onDisk(cfg) {
		unit, err := rpc.ControlUnit(ctx, cfg.Storage.RootDirectory, blobs, catalog, mirror, scans, rpc.ServerOptions{Audit: serve.Audit, Log: p.Log})
		if err != nil {
			return nil, err
		}
		units = append(units, unit)
	}

	api := func(says registry.Policy) (http.Handler, error) {
		return rest.Handler(rest.Options{Blobs: blobs, Catalog: catalog, Mirror: mirror, Scans: scans, Policy: says, Log: p.Log})
	}
	front, err := gateway.Configured(ctx, cfg, gateway.Deps{Methods: parts.Methods, Blobs: blobs, Catalog: catalog, Mirror: mirror, Scans: scans, NewREST: api, NewSearch: parts.Search}, p)
	if err != nil {
		return nil, err
	}
	return append(units, front), nil
}

// near returns a service of this process, or one that is dialled.
func near[P any](s config.Service, o rpc.DialOptions, dial func([]string, rpc.DialOptions) (P, error), open func() (P, error)) (P, error) {
	if len(s.Address) > 0 {
		return dial(s.Address, o)
	}
	return open()
}

func dialBlobs(addresses []string, o rpc.DialOptions) (Blobs, error) {
	return rpc.DialBlobs(addresses, o)
}

func dialCatalog(addresses []string, o rpc.DialOptions) (Catalog, error) {
	return rpc.DialCatalog(addresses, o)
}
