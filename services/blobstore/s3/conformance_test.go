package s3_test

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

var roots atomic.Int64

// newRoot returns a rootdirectory that nobody has.
func newRoot() string { return fmt.Sprintf("/root-%d", roots.Add(1)) }

func openDriver(t testing.TB, driver config.Driver, o s3.Options) *s3.Driver {
	t.Helper()
	cfg, err := config.Pool{StorageDriver: driver}.S3()
	if err != nil {
		t.Fatal(err)
	}
	d, err := s3.Open(t.Context(), cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// store is a Store and what it stands on.
type store struct {
	*blobstore.Store
	drivers map[registry.Pool]config.Driver
}

func openStore(t testing.TB, drivers map[registry.Pool]config.Driver) *store {
	t.Helper()
	return openStoreWith(t, drivers, s3.Options{})
}

func openStoreWith(t testing.TB, drivers map[registry.Pool]config.Driver, o s3.Options) *store {
	t.Helper()
	pools := make(map[registry.Pool]blobstore.Driver)
	for name, driver := range drivers {
		pools[name] = openDriver(t, driver, o)
	}
	s, err := blobstore.Open(t.Context(), pools, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &store{s, drivers}
}

func backend(srv *s3test.Server) registrytest.BlobsBackend {
	return registrytest.BlobsBackend{
		New: func(t *testing.T) registry.Blobs {
			return openStore(t, map[registry.Pool]config.Driver{"": srv.Driver(newRoot()), "/b": srv.Driver(newRoot())})
		},
		Reopen: func(t *testing.T, b registry.Blobs) registry.Blobs {
			return openStore(t, b.(*store).drivers)
		},
		Pools: []registry.Pool{"/b"},
	}
}

// TestConformanceMixed has one pool on S3 and one on the disk, as subPaths may.
func TestConformanceMixed(t *testing.T) {
	srv := s3test.Start(t)
	mixed := func(onDisk, inBucket registry.Pool) registrytest.BlobsBackend {
		type place struct {
			*blobstore.Store
			dir    string
			bucket config.Driver
		}
		open := func(t *testing.T, dir string, bucket config.Driver) registry.Blobs {
			d, err := disk.OpenPool(t.Context(), config.Pool{RootDirectory: dir})
			if err != nil {
				t.Fatal(err)
			}
			pools := map[registry.Pool]blobstore.Driver{onDisk: d, inBucket: openDriver(t, bucket, s3.Options{})}
			s, err := blobstore.Open(t.Context(), pools, blobstore.Options{}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return &place{s, dir, bucket}
		}
		return registrytest.BlobsBackend{
			New: func(t *testing.T) registry.Blobs { return open(t, t.TempDir(), srv.Driver(newRoot())) },
			Reopen: func(t *testing.T, b registry.Blobs) registry.Blobs {
				p := b.(*place)
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				return open(t, p.dir, p.bucket)
			},
			Pools: []registry.Pool{"/b"},
		}
	}
	t.Run("S3 below a path", func(t *testing.T) { registrytest.Blobs(t, mixed("", "/b")) })
	t.Run("disk below a path", func(t *testing.T) { registrytest.Blobs(t, mixed("/b", "")) })
}

func TestConformance(t *testing.T) {
	srv := s3test.Start(t)
	t.Run("one process", func(t *testing.T) { registrytest.Blobs(t, backend(srv)) })
	t.Run("over the wire", func(t *testing.T) { registrytest.Blobs(t, rpctest.BlobsBackend(backend(srv))) })
}
