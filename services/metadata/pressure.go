package metadata

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
)

// pressureEvery is how often the blobstore is asked how scarce storage is.
const pressureEvery = 10 * time.Second

// pressures is how scarce storage is, in thousandths.
type pressures struct {
	all   int64
	pools map[registry.Pool]int64 // nil: all of them have the same
}

// pressuresOf returns what a blobstore says.
func pressuresOf(h registry.Health) *pressures {
	thousandths := func(f float64) int64 { return int64(1000 * min(max(f, 0), 1)) }
	p := &pressures{all: thousandths(h.Pressure)}
	if h.Pools != nil {
		p.pools = make(map[registry.Pool]int64, len(h.Pools))
		for name, f := range h.Pools {
			p.pools[name] = thousandths(f)
		}
	}
	return p
}

// of returns how scarce the storage of a pool is: a pool that fills up is no reason
// to keep things shorter in others.
func (p *pressures) of(name registry.Pool) int64 {
	switch {
	case p == nil:
		return 0
	case p.pools == nil:
		return p.all
	}
	return p.pools[name]
}

// feelPressure keeps c.pressure up to date until ctx ends. A blobstore that does not
// answer changes nothing.
func (c *Catalog) feelPressure(ctx context.Context, blobs registry.Checker) {
	tick := time.NewTicker(pressureEvery)
	defer tick.Stop()
	for {
		asked, cancel := context.WithTimeout(ctx, pressureEvery)
		h, err := blobs.Check(asked)
		cancel()
		if err == nil {
			c.pressure.Store(pressuresOf(h))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// relieved returns how long something in a pool is kept that would be kept for a time
// if storage were plenty, and for least however scarce it is.
func (c *Catalog) relieved(p registry.Pool, kept, least time.Duration) time.Duration {
	if kept <= least {
		return kept
	}
	return kept - (kept-least)/1000*time.Duration(c.pressure.Load().of(p))
}
