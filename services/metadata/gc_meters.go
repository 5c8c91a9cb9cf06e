package metadata

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry/metrics"
)

// sqlQueued counts no further than its limit.
const sqlQueued = `SELECT COUNT(*) FROM (SELECT 1 FROM reviews WHERE pool = $1 AND due <= $2 ORDER BY due LIMIT $3) queued`

// maxQueued is how many due reviews the metric counts at most.
const maxQueued = 10_000

// queueTime bounds what a reader of metrics waits for the database.
const queueTime = 2 * time.Second

// measureQueue tells how much is due, and for how long, whenever somebody reads
// the metrics.
func (c *Catalog) measureQueue(ctx context.Context, m *metrics.Set) {
	m.Collect(metrics.GaugeKind, "berth_gc_queue", "Reviews that are due; counted to 10,000.", func(e *metrics.Emitter) {
		ctx, cancel := context.WithTimeout(ctx, queueTime)
		defer cancel()
		for _, p := range c.pools() {
			var n int64
			if c.db.QueryRow(ctx, sqlQueued, string(p), c.now(), maxQueued).Scan(&n) == nil {
				e.Emit(float64(n), "pool", poolLabel(p))
			}
		}
	})
	m.Collect(metrics.GaugeKind, "berth_gc_queue_age_seconds", "How long the oldest review has been due.", func(e *metrics.Emitter) {
		ctx, cancel := context.WithTimeout(ctx, queueTime)
		defer cancel()
		for _, p := range c.pools() {
			var next *int64
			if c.db.QueryRow(ctx, sqlNextReview, string(p)).Scan(&next) != nil {
				continue
			}
			age := 0.0
			if next != nil {
				age = max(0, time.Duration((c.now()-*next)*1000).Seconds())
			}
			e.Emit(age, "pool", poolLabel(p))
		}
	})
}
