package metadata

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

type scarce registry.Health

func (s scarce) Check(context.Context) (registry.Health, error) { return registry.Health(s), nil }

// TestPressure: what is kept to be undone is kept shorter the scarcer the storage of
// its pool is, and never shorter than was promised.
func TestPressure(t *testing.T) {
	const day, half = 24 * time.Hour, 12*time.Hour + 30*time.Minute
	type pools = map[registry.Pool]float64
	for name, test := range map[string]struct {
		health      registry.Health
		want, other time.Duration
	}{
		"plenty":                    {registry.Health{Pools: pools{}}, day, day},
		"half":                      {registry.Health{Pressure: 0.5, Pools: pools{"": 0.5, "/b": 0.5}}, half, half},
		"scarce":                    {registry.Health{Pressure: 1, Pools: pools{"": 1, "/b": 1}}, time.Hour, time.Hour},
		"too much":                  {registry.Health{Pressure: 7, Pools: pools{"": 7, "/b": -1}}, time.Hour, day},
		"another pool is full":      {registry.Health{Pressure: 1, Pools: pools{"/b": 1}}, day, time.Hour},
		"pools are not told apart":  {registry.Health{Pressure: 0.5}, half, half},
		"nothing is told of a pool": {registry.Health{Pressure: 0.5, Pools: pools{"": 0.5}}, half, day},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := new(Catalog)
				ctx, cancel := context.WithCancel(t.Context())
				go c.feelPressure(ctx, scarce(test.health))
				synctest.Wait()
				cancel()
				for p, want := range map[registry.Pool]time.Duration{"": test.want, "/b": test.other} {
					if got := c.relieved(p, day, time.Hour); got != want {
						t.Errorf("pool %q: kept for %v, want %v", p, got, want)
					}
					if got := c.relieved(p, time.Minute, time.Hour); got != time.Minute {
						t.Errorf("pool %q: what is kept shorter anyway is kept for %v", p, got)
					}
				}
			})
		})
	}
}
