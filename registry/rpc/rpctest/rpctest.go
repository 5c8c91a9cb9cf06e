// Package rpctest puts a port behind gRPC, for tests: what it returns is the
// given implementation as another process would see it. Services use it in
// their tests only.
package rpctest

import (
	"context"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/rpc"
)

// Blobs returns local as seen through a gRPC client and server that live as long
// as the test.
func Blobs(t testing.TB, local registry.Blobs) registry.Blobs {
	return rpc.NewBlobs(serve(t, local, func(srv *grpc.Server) { rpc.ServeBlobs(srv, local) }))
}

// Catalog returns local as seen through a gRPC client and server that live as
// long as the test.
func Catalog(t testing.TB, local registry.Catalog) registry.Catalog {
	return rpc.NewCatalog(serve(t, local, func(srv *grpc.Server) { rpc.ServeCatalog(srv, local) }))
}

// Mirror returns local as seen through a gRPC client and server that live as long
// as the test.
func Mirror(t testing.TB, local registry.Mirror) registry.Mirror {
	return rpc.NewMirror(serve(t, local, func(srv *grpc.Server) { rpc.ServeMirror(srv, local, nil) }))
}

// Scans returns local as seen through a gRPC client and server that live as long as
// the test.
func Scans(t testing.TB, local registry.Scans) registry.Scans {
	return rpc.NewScans(serve(t, local, func(srv *grpc.Server) { rpc.ServeScans(srv, local, nil) }))
}

// BlobsBackend returns b with gRPC around each store.
func BlobsBackend(b registrytest.BlobsBackend) registrytest.BlobsBackend {
	var locals sync.Map // remote to local
	over := b
	over.New = func(t *testing.T) registry.Blobs {
		return around(t, &locals, b.New(t), Blobs)
	}
	if b.Reopen != nil {
		over.Reopen = func(t *testing.T, remote registry.Blobs) registry.Blobs {
			local, _ := locals.Load(remote)
			return around(t, &locals, b.Reopen(t, local.(registry.Blobs)), Blobs)
		}
	}
	return over
}

// CatalogBackend returns b with gRPC around each catalog.
func CatalogBackend(b registrytest.CatalogBackend) registrytest.CatalogBackend {
	var locals sync.Map // remote to local
	over := b
	over.New = func(t *testing.T, o registrytest.CatalogOptions) registry.Catalog {
		return around(t, &locals, b.New(t, o), Catalog)
	}
	if b.Reopen != nil {
		over.Reopen = func(t *testing.T, remote registry.Catalog) registry.Catalog {
			local, _ := locals.Load(remote)
			return around(t, &locals, b.Reopen(t, local.(registry.Catalog)), Catalog)
		}
	}
	return over
}

func around[P any](t *testing.T, locals *sync.Map, local P, wrap func(testing.TB, P) P) P {
	remote := wrap(t, local)
	locals.Store(remote, local)
	return remote
}

// serve runs a server in memory and returns a connection to it. At the end of
// the test both have ended.
func serve(t testing.TB, check registry.Checker, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	pipe := bufconn.Listen(1 << 20)
	srv := rpc.NewServer(rpc.ServerOptions{})
	register(srv)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- rpc.Serve(ctx, pipe, srv, check, 0) }()

	conn, err := rpc.Dial([]string{"passthrough:///pipe"}, rpc.DialOptions{
		Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return pipe.DialContext(ctx) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return conn
}
