package metadata

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

type scarce float64

func (s scarce) Check(context.Context) (registry.Health, error) {
	return registry.Health{Pressure: float64(s)}, nil
}

// TestPressure: what is kept to be undone is kept shorter the scarcer storage is,
// and never shorter than was promised.
func TestPressure(t *testing.T) {
	for pressure, want := range map[float64]time.Duration{0: 24 * time.Hour, 0.5: 12*time.Hour + 30*time.Minute, 1: time.Hour, 7: time.Hour, -1: 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := new(Catalog)
			ctx, cancel := context.WithCancel(t.Context())
			go c.feelPressure(ctx, scarce(pressure))
			synctest.Wait()
			cancel()
			if got := c.relieved(24*time.Hour, time.Hour); got != want {
				t.Errorf("pressure %v: kept for %v, want %v", pressure, got, want)
			}
			if got := c.relieved(time.Minute, time.Hour); got != time.Minute {
				t.Errorf("pressure %v: what is kept shorter anyway is kept for %v", pressure, got)
			}
		})
	}
}
