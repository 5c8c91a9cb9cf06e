// Program berth-gateway speaks HTTP for a blobstore and a catalog elsewhere.
package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/cli"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/doctor"
	"github.com/berth-registry/berth/registry/otlp"
	"github.com/berth-registry/berth/registry/rpc"
	"github.com/berth-registry/berth/registry/rpc/rest"
	"github.com/berth-registry/berth/services/gateway"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/auth/htpasswd"
	"github.com/berth-registry/berth/services/gateway/auth/jwt"
	"github.com/berth-registry/berth/services/gateway/auth/jwt/claims"
	"github.com/berth-registry/berth/services/gateway/auth/jwt/secretsmanager"
	"github.com/berth-registry/berth/services/gateway/auth/ldap"
	"github.com/berth-registry/berth/services/gateway/search"
)

var version = "unknown" // set by the linker

func main() {
	cli.Program{
		Name:    "berth-gateway",
		Version: version,
		Summary: "the HTTP front of an OCI registry; it keeps nothing",
		Traces:  otlp.Open,
		Commands: []cli.Command{cli.Group(cli.Command{
			Name: "user", Args: "COMMAND", Summary: "users of the password file",
			Example: "berth-gateway user add config.json alice",
		}, htpasswd.Commands("berth-gateway")...)},
		Serve: cli.Server{Program: config.OnlyGateway, NeedsFile: true, HTTP: true, Units: units, Doctor: func(cfg *config.Config) []doctor.Check { return rpc.Examine(cfg.Services) }},
	}.Main()
}

func units(ctx context.Context, cfg *config.Config, p daemon.Process) ([]daemon.Unit, error) {
	security, err := rpc.Secure(cfg.Services, p.Log)
	if err != nil {
		return nil, err
	}
	dial := rpc.DialOptions{Security: security, Metrics: p.Metrics}
	blobs, err := rpc.DialBlobs(cfg.Services.Blobstore.Address, dial)
	if err != nil {
		return nil, err
	}
	catalog, err := rpc.DialCatalog(cfg.Services.Metadata.Address, dial)
	if err != nil {
		return nil, errors.Join(err, blobs.Close())
	}
	var scans registry.Scans // nil if the file says nothing of one
	closeScans := func() error { return nil }
	if addresses := cfg.Services.Scanner.Address; len(addresses) > 0 {
		s, err := rpc.DialScans(addresses, dial)
		if err != nil {
			return nil, errors.Join(err, catalog.Close(), blobs.Close())
		}
		scans, closeScans = s, s.Close
	}
	var mirror registry.Mirror // nil if the file says nothing of one
	closeMirror := func() error { return nil }
	if addresses := cfg.Services.Syncer.Address; len(addresses) > 0 {
		m, err := rpc.DialMirror(addresses, dial)
		if err != nil {
			return nil, errors.Join(err, closeMirror(), closeScans(), catalog.Close(), blobs.Close())
		}
		mirror, closeMirror = m, m.Close
	}
	api := func(says registry.Policy) (http.Handler, error) {
		return rest.Handler(rest.Options{Blobs: blobs, Catalog: catalog, Mirror: mirror, Scans: scans, Policy: says, Log: p.Log})
	}
	front, err := gateway.Configured(ctx, cfg, gateway.Deps{Methods: auth.Parts{LDAP: ldap.Open, Bearer: jwt.Bearer(secretsmanager.Open), OIDC: jwt.OIDC(claims.Compile)}, Blobs: blobs, Catalog: catalog, Mirror: mirror, Scans: scans, NewREST: api, NewSearch: search.Open}, p)
	if err != nil {
		return nil, errors.Join(err, closeMirror(), closeScans(), catalog.Close(), blobs.Close())
	}
	return []daemon.Unit{
		daemon.Closer("connection to the blobstore", blobs.Close),
		daemon.Closer("connection to the catalog", catalog.Close),
		daemon.Closer("connection to the syncer", closeMirror),
		daemon.Closer("connection to the scanner", closeScans),
		front,
	}, nil
}
