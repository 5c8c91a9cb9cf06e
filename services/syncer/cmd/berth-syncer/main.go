// Program berth-syncer mirrors other registries, over gRPC.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/berth-registry/berth/registry/auditlog"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/otlp"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/rpc/reflect"
	"github.com/berth-registry/berth/services/metadata/postgres"
	"github.com/berth-registry/berth/services/metadata/sqlite"
	"github.com/berth-registry/berth/services/syncer"
	"github.com/berth-registry/berth/services/syncer/credentials"
	"github.com/berth-registry/berth/services/syncer/credentials/ecr"
	"github.com/berth-registry/berth/services/syncer/credentials/gcp"
)

var version = "unknown" // set by the linker

func main() {
	cli.Program{
		Name:    "berth-syncer",
		Version: version,
		Summary: "mirrors other registries into an OCI registry",
		Traces:  otlp.Open,
		Serve: cli.Server{
			Program: config.OnlySyncer, NeedsFile: true, Units: units, Health: health,
			Doctor: func(cfg *config.Config) []doctor.Check { return rpc.Examine(cfg.Services) },
		},
	}.Main()
}

func units(ctx context.Context, cfg *config.Config, p daemon.Process) (_ []daemon.Unit, err error) {
	var units []daemon.Unit
	defer func() {
		if err != nil {
			err = errors.Join(err, daemon.Abandon(units))
		}
	}()
	if !syncer.Wanted(cfg) {
		return nil, errors.New("extensions.sync.registries: needed: there is nothing to mirror")
	}
	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return nil, err
	}
	dial := rpc.DialOptions{Security: security, Metrics: p.Metrics}
	blobs, err := rpc.DialBlobs(cfg.Services.Blobstore.Address, dial)
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("connection to the blobstore", blobs.Close))
	catalog, err := rpc.DialCatalog(cfg.Services.Metadata.Address, dial)
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("connection to the catalog", catalog.Close))
	fatal, doom := daemon.Fatal("syncer's database")
	parts := syncer.Parts{
		Databases: map[string]syncer.OpenDB{"sqlite": sqlite.OpenSyncer, "postgres": postgres.OpenSyncer},
		Helpers:   map[string]credentials.Helper{"ecr": ecr.Helper, "gcp": gcp.Helper},
		Dial:      func(address string) (syncer.Peer, error) { return rpc.DialMirror([]string{address}, dial) },
	}
	mirror, err := syncer.OpenConfigured(ctx, cfg, parts, blobs, catalog, doom, p)
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("syncer", mirror.Close), fatal)
	file, closer, err := auditlog.Open(cfg.Log.Audit, p.Rotated)
	if err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	units = append(units, daemon.Closer("log.audit", closer.Close))
	serve := rpc.ServerOptions{Security: security, Audit: auditlog.Both(file, catalog), Log: p.Log, Metrics: p.Metrics, Traces: p.Traces}
	if cfg.Services.Reflection {
		serve.Reflect = reflect.Register
	}
	server, err := rpc.MirrorUnit(ctx, cfg.Services.Syncer.Listen, mirror, catalog, serve)
	if err != nil {
		return nil, err
	}
	units = append(units, server)
	monitor, err := daemon.Monitor(ctx, cfg.Services.Syncer.Metrics, security.TLS(), p, func(ctx context.Context) error {
		_, err := mirror.Check(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return append(units, monitor), nil
}

func health(ctx context.Context, cfg *config.Config) error {
	security, err := rpc.Secure(cfg.Services, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return rpc.CheckHealth(ctx, cfg.Services.Syncer.Listen, rpc.DialOptions{Security: security, Server: rpc.Syncer})
}
