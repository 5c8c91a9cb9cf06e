package metadata

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
)

// pressureEvery is how often the blobstore is asked how scarce storage is.
const pressureEvery = 10 * time.Second

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
			c.pressure.Store(int64(1000 * min(max(h.Pressure, 0), 1)))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// relieved returns how long something is kept that would be kept for a time if
// storage were plenty, and for least however scarce it is.
func (c *Catalog) relieved(kept, least time.Duration) time.Duration {
	if kept <= least {
		return kept
	}
	return kept - (kept-least)/1000*time.Duration(c.pressure.Load())
}
