package memory_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/registrytest"
)

func TestBlobs(t *testing.T) {
	pools := []registry.Pool{"/a", "/b"}
	registrytest.Blobs(t, registrytest.BlobsBackend{
		New: func(*testing.T) registry.Blobs { return memory.NewBlobs(pools...) },
		// A crash that loses nothing: memory has no disk to open again.
		Reopen: func(_ *testing.T, b registry.Blobs) registry.Blobs { return b },
		Pools:  pools,
	})
}

func TestCatalog(t *testing.T) {
	registrytest.Catalog(t, registrytest.CatalogBackend{
		New: func(_ *testing.T, o registrytest.CatalogOptions) registry.Catalog {
			return memory.NewCatalog(memory.CatalogOptions{AllowSparse: o.AllowSparse, AllowWrongSizes: o.AllowWrongSizes, Access: o.Access, Pools: o.Pools, Reaper: o.Reaper})
		},
		Reopen: func(_ *testing.T, c registry.Catalog) registry.Catalog { return c },
	})
}

func TestScans(t *testing.T) {
	registrytest.Scans(t, registrytest.ScansBackend{New: func(*testing.T) registrytest.Scanned {
		s := memory.NewScans()
		return registrytest.Scanned{Scans: s, Put: s.Put}
	}})
}

func TestMirror(t *testing.T) {
	registrytest.Mirror(t, registrytest.MirrorBackend{New: func(t *testing.T, push registry.PushRule) registrytest.Mirrored {
		o := memory.MirrorOptions{
			Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{}), UpstreamBlobs: memory.NewBlobs(), Upstream: memory.NewCatalog(memory.CatalogOptions{}),
			Rule: registry.MirrorRule{Name: "hub.test", OnDemand: true, Push: push, Scope: []string{"hub/**"}},
		}
		m, err := memory.NewMirror(o)
		if err != nil {
			t.Fatal(err)
		}
		return registrytest.Mirrored{Mirror: m, Rule: o.Rule.Name, Catalog: o.Catalog, Blobs: o.Blobs, Upstream: o.Upstream, UpstreamBlobs: o.UpstreamBlobs, Down: m.SetDown}
	}})
}
