package rpc_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
)

func TestBlobs(t *testing.T) {
	pools := []registry.Pool{"/a", "/b"}
	registrytest.Blobs(t, rpctest.BlobsBackend(registrytest.BlobsBackend{
		New:    func(*testing.T) registry.Blobs { return memory.NewBlobs(pools...) },
		Reopen: func(_ *testing.T, b registry.Blobs) registry.Blobs { return b },
		Pools:  pools,
	}))
}

func TestCatalog(t *testing.T) {
	registrytest.Catalog(t, rpctest.CatalogBackend(registrytest.CatalogBackend{
		New: func(_ *testing.T, o registrytest.CatalogOptions) registry.Catalog {
			return memory.NewCatalog(memory.CatalogOptions{AllowSparse: o.AllowSparse, AllowWrongSizes: o.AllowWrongSizes, Access: o.Access, Pools: o.Pools, Reaper: o.Reaper})
		},
		Reopen: func(_ *testing.T, c registry.Catalog) registry.Catalog { return c },
	}))
}

func TestScans(t *testing.T) {
	registrytest.Scans(t, registrytest.ScansBackend{New: func(t *testing.T) registrytest.Scanned {
		s := memory.NewScans()
		return registrytest.Scanned{Scans: rpctest.Scans(t, s), Put: s.Put}
	}})
}
