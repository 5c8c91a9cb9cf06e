// Program berth-blobstore serves a blobstore over gRPC.
package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/otlp"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/rpc/reflect"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/blobstore/s3"
)

var version = "unknown" // set by the linker

func main() {
	cli.Program{
		Name:    "berth-blobstore",
		Version: version,
		Summary: "keeps the bytes of an OCI registry",
		Traces:  otlp.Open,
		Serve:   cli.Server{Program: config.OnlyBlobstore, NeedsFile: true, Units: units, Health: health, Doctor: examine},
	}.Main()
}

func units(ctx context.Context, cfg *config.Config, p daemon.Process) ([]daemon.Unit, error) {
	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return nil, err
	}
	drivers := map[string]blobstore.OpenPool{"local": disk.OpenPool, "s3": s3.OpenPool}
	store, err := blobstore.OpenConfigured(ctx, cfg.Storage, drivers, p)
	if err != nil {
		return nil, err
	}
	serve := rpc.ServerOptions{Security: security, Log: p.Log, Metrics: p.Metrics, Traces: p.Traces}
	if cfg.Services.Reflection {
		serve.Reflect = reflect.Register
	}
	server, err := rpc.BlobsUnit(ctx, cfg.Services.Blobstore.Listen, store, serve)
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	monitor, err := daemon.Monitor(ctx, cfg.Services.Blobstore.Metrics, security.TLS(), p, func(ctx context.Context) error {
		_, err := store.Check(ctx)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, server.Abandon(), store.Close())
	}
	return []daemon.Unit{daemon.Closer("blobstore", store.Close), monitor, server}, nil
}

func examine(cfg *config.Config) []doctor.Check {
	var all []doctor.Check
	if !cfg.Storage.Pool.Local() {
		all = append(all, s3.Examine("storage.storageDriver", cfg.Storage.Pool))
	}
	for name, sub := range cfg.Storage.SubPaths {
		if !sub.Local() {
			all = append(all, s3.Examine("storage.subPaths."+name+".storageDriver", sub.Pool))
		}
	}
	return all
}

func health(ctx context.Context, cfg *config.Config) error {
	security, err := rpc.Secure(cfg.Services, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	return rpc.CheckHealth(ctx, cfg.Services.Blobstore.Listen, rpc.DialOptions{Security: security, Server: rpc.Blobstore})
}
