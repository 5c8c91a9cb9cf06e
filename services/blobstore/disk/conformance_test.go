package disk_test

import (
	"log/slog"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
)

// store is a Store and what it stands on.
type store struct {
	*blobstore.Store
	roots   map[registry.Pool]string
	drivers map[registry.Pool]*disk.Driver
}

func openStore(t *testing.T, roots map[registry.Pool]string, o disk.Options) *store {
	t.Helper()
	s := &store{roots: roots, drivers: make(map[registry.Pool]*disk.Driver)}
	pools := make(map[registry.Pool]blobstore.Driver)
	for name, root := range roots {
		d, err := disk.Open(root, o)
		if err != nil {
			t.Fatal(err)
		}
		s.drivers[name], pools[name] = d, d
	}
	var err error
	s.Store, err = blobstore.Open(t.Context(), pools, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func backend(o disk.Options) registrytest.BlobsBackend {
	return registrytest.BlobsBackend{
		New: func(t *testing.T) registry.Blobs {
			return openStore(t, map[registry.Pool]string{"": t.TempDir(), "/b": t.TempDir()}, o)
		},
		Reopen: func(t *testing.T, b registry.Blobs) registry.Blobs {
			old := b.(*store)
			for _, d := range old.drivers {
				d.Crash(t)
			}
			return openStore(t, old.roots, o)
		},
		Pools: []registry.Pool{"/b"},
	}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]disk.Options{"durable": {Durable: true}, "relaxed": {}} {
		t.Run(name, func(t *testing.T) { registrytest.Blobs(t, backend(o)) })
	}
	t.Run("over the wire", func(t *testing.T) {
		registrytest.Blobs(t, rpctest.BlobsBackend(backend(disk.Options{Durable: true})))
	})
}
