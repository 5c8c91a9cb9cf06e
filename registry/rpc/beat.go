package rpc

import (
	"context"
	"sync"
	"time"
)

// beat calls send at each interval, so that a stream on which there is nothing to tell
// yet is not taken for a dead one, until send fails or stop is called; nothing is sent
// once stop has returned. The context it returns ends with stop.
func beat(ctx context.Context, interval time.Duration, send func() error) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if send() != nil {
					return // ctx ends, too
				}
			}
		}
	})
	return ctx, func() {
		cancel()
		beating.Wait()
	}
}
