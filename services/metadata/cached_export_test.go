package metadata

import (
	"context"

	"github.com/berth-registry/berth/registry"
)

// TrimCache evicts what is too much, as the catalog does by itself now and then.
func (c *Catalog) TrimCache(ctx context.Context, full map[registry.Pool]int64) error {
	return c.trimCache(ctx, "", full)
}

// SetPressure says how scarce storage is, in all pools.
func (c *Catalog) SetPressure(part float64) {
	c.pressure.Store(pressuresOf(registry.Health{Pressure: part}))
}
