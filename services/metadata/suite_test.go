package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/services/metadata"
)

func TestCatalog(t *testing.T) {
	registrytest.Catalog(t, registrytest.CatalogBackend{
		New: func(t *testing.T, o registrytest.CatalogOptions) registry.Catalog {
			return openStore(t, t.TempDir(), metadata.Options{Pools: o.Pools, AllowSparse: o.AllowSparse}, o.Reaper)
		},
		Reopen: func(t *testing.T, c registry.Catalog) registry.Catalog {
			return c.(*store).crash(t)
		},
	})
}
