// Program berth-scanner scans images for vulnerabilities, over gRPC.
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
	"github.com/berth-registry/berth/services/scanner"
)

var version = "unknown" // set by the linker

func main() {
	cli.Program{
		Name:    "berth-scanner",
		Version: version,
		Summary: "scans the images of an OCI registry for vulnerabilities",
		Traces:  otlp.Open,
		Serve: cli.Server{
			Program: config.OnlyScanner, NeedsFile: true, Units: units, Health: health,
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
	if !scanner.Wanted(cfg) {
		return nil, errors.New("extensions.search.cve: needed: there is nothing to scan for")
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
	fatal, doom := daemon.Fatal("scanner's database")
	drivers := map[string]scanner.OpenDB{"sqlite": sqlite.OpenScanner, "postgres": postgres.OpenScanner}
	scans, err := scanner.OpenConfigured(ctx, cfg, drivers, blobs, catalog, doom, p)
	if err != nil {
		return nil, err
	}
	units = append(units, daemon.Closer("scanner", scans.Close), fatal)
	file, closer, err := auditlog.Open(cfg.Log.Audit, p.Rotated)
	if err != nil {
		return nil, fmt.Errorf("log.audit: %w", err)
	}
	units = append(units, daemon.Closer("log.audit", closer.Close))
	serve := rpc.ServerOptions{Security: security, Audit: auditlog.Both(file, catalog), Log: p.Log, Metrics: p.Metrics, Traces: p.Traces}
	if cfg.Services.Reflection {
		serve.Reflect = reflect.Register
	}
	server, err := rpc.ScansUnit(ctx, cfg.Services.Scanner.Listen, scans, catalog, serve)
	if err != nil {
		return nil, err
	}
	units = append(units, server)
	monitor, err := daemon.Monitor(ctx, cfg.Services.Scanner.Metrics, security.TLS(), p, func(ctx context.Context) error {
		_, err := scans.Check(ctx)
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
	return rpc.CheckHealth(ctx, cfg.Services.Scanner.Listen, rpc.DialOptions{Security: security, Server: rpc.Scanner})
}
