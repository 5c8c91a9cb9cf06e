package metadata_test

import (
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/metadata"
)

func backend(at newPlace) registrytest.CatalogBackend {
	return registrytest.CatalogBackend{
		New: func(t *testing.T, o registrytest.CatalogOptions) registry.Catalog {
			return openStore(t, at(t), metadata.Options{Pools: o.Pools, AllowSparse: o.AllowSparse, AllowWrongSizes: o.AllowWrongSizes, Access: o.Access, Search: true}, o.Reaper)
		},
		Reopen: func(t *testing.T, c registry.Catalog) registry.Catalog {
			return c.(*store).crash(t)
		},
	}
}

func TestCatalog(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) { registrytest.Catalog(t, backend(at)) })
}

func TestCatalogOverTheWire(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) { registrytest.Catalog(t, rpctest.CatalogBackend(backend(at))) })
}
