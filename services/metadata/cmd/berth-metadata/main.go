// Program berth-metadata serves a catalog over gRPC.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/otlp"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/rpc/reflect"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/cel"
	"github.com/berth-registry/berth/services/metadata/nats"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

var version = "unknown" // set by the linker

func main() {
	cli.Program{
		Name:    "berth-metadata",
		Version: version,
		Summary: "keeps the names of an OCI registry",
		Traces:  otlp.Open,
		Serve:   cli.Server{Program: config.OnlyMetadata, NeedsFile: true, Units: units, Health: health, Doctor: examine},
	}.Main()
}

func units(ctx context.Context, cfg *config.Config, p daemon.Process) (_ []daemon.Unit, err error) {
	var units []daemon.Unit
	defer func() {
		if err != nil {
			err = errors.Join(err, daemon.Abandon(units))
		}
	}()
	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return nil, err
	}
	var reaper registry.Reaper // nil keeps what is to be removed in the queue
	if addresses := cfg.Services.Blobstore.Address; len(addresses) > 0 {
		blobs, err := rpc.DialBlobs(addresses, rpc.DialOptions{Security: security, Metrics: p.Metrics})
		if err != nil {
			return nil, err
		}
		reaper = blobs
		units = append(units, daemon.Closer("connection to the blobstore", blobs.Close))
	}
	fatal, doom := daemon.Fatal("metadata database")
	drivers := metadata.Drivers{
		Databases:  map[string]metadata.OpenDB{"sqlite": sqlite.OpenConfigured, "postgres": postgres.OpenConfigured},
		Conditions: cel.Compile,
		NATS:       nats.Open,
	}
	catalog, err := metadata.OpenConfigured(ctx, cfg, drivers, reaper, doom, p)
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("metadata", catalog.Close), fatal)
	file, closer, err := auditlog.Open(cfg.Log.Audit, p.Rotated)
	if err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	units = append(units, daemon.Closer("log.audit", closer.Close))
	serve := rpc.ServerOptions{Security: security, Audit: auditlog.Both(file, catalog), Log: p.Log, Metrics: p.Metrics, Traces: p.Traces}
	if cfg.Services.Reflection {
		serve.Reflect = reflect.Register
	}
	server, err := rpc.CatalogUnit(ctx, cfg.Services.Metadata.Listen, catalog, serve)
	if err != nil {
		return nil, err
	}
	units = append(units, server)
	monitor, err := daemon.Monitor(ctx, cfg.Services.Metadata.Metrics, security.TLS(), p, func(ctx context.Context) error {
		_, err := catalog.Check(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append(units, monitor), nil
}

func examine(cfg *config.Config) []doctor.Check {
	all := rpc.Examine(config.Services{Blobstore: cfg.Services.Blobstore, TLS: cfg.Services.TLS})
	if cfg.Storage.Metadata.Driver == config.Postgres {
		all = append(all, postgres.Examine(cfg.Storage))
	}
	return all
}

func health(ctx context.Context, cfg *config.Config) error {
	security, err := rpc.Secure(cfg.Services, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return rpc.CheckHealth(ctx, cfg.Services.Metadata.Listen, rpc.DialOptions{Security: security, Server: rpc.Metadata})
}
