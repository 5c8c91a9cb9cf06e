package sqldb

import (
	"database/sql"
	"time"

	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/registry/tracing"
)

// meters count what a database does.
type meters struct {
	query   *metrics.Histogram
	write   [2]*metrics.Histogram // by priority: that of Write, of WriteLow
	commit  *metrics.Histogram
	batch   *metrics.Histogram // operations in a collected transaction
	retries *metrics.Counter
}

func newMeters(m *metrics.Set) *meters {
	const write = "Time of a write, from the call until it is durable, the wait for its turn included."
	return &meters{
		query: m.Durations("berth_db_query_duration_seconds", "Time of a query outside of writes, until its first row.", metrics.Quick),
		write: [2]*metrics.Histogram{
			m.Durations("berth_db_write_duration_seconds", write, metrics.Quick, "priority", "normal"),
			m.Durations("berth_db_write_duration_seconds", write, metrics.Quick, "priority", "low"),
		},
		commit:  m.Durations("berth_db_commit_duration_seconds", "Time to make a transaction durable.", metrics.Quick),
		batch:   m.Sizes("berth_db_batch_operations", "Writes that shared a transaction.", []int64{1, 2, 4, 8, 16, 32, 64, 128}),
		retries: m.Counter("berth_db_retries_total", "Writes that were tried again because they met another one or their connection broke."),
	}
}

// Observe has the database count in m from now on.
func (db *DB) Observe(m *metrics.Set) {
	now := newMeters(m)
	db.meters.Store(now)
	db.w.observe(now)
	pools := map[string]*sql.DB{"read": db.read}
	if db.writes != db.read {
		pools["write"] = db.writes
	}
	for name, pool := range pools {
		stat := func(kind metrics.Kind, metric, help string, f func(sql.DBStats) float64, more ...string) {
			m.Func(kind, metric, help, func() float64 { return f(pool.Stats()) }, append([]string{"pool", name}, more...)...)
		}
		const conns = "Connections to the database."
		stat(metrics.GaugeKind, "berth_db_connections", conns, func(s sql.DBStats) float64 { return float64(s.InUse) }, "state", "busy")
		stat(metrics.GaugeKind, "berth_db_connections", conns, func(s sql.DBStats) float64 { return float64(s.Idle) }, "state", "idle")
		stat(metrics.CounterKind, "berth_db_connection_waits_total", "Times that a connection had to be waited for.", func(s sql.DBStats) float64 { return float64(s.WaitCount) })
		stat(metrics.CounterKind, "berth_db_connection_wait_seconds_total", "Time spent waiting for connections.", func(s sql.DBStats) float64 { return s.WaitDuration.Seconds() })
	}
}

// timing is a query that runs.
type timing struct {
	meters *meters
	began  time.Time
	span   tracing.Span
}

func (t timing) end(err error) {
	t.meters.query.Since(t.began)
	if err == sql.ErrNoRows {
		err = nil // an answer like any other
	}
	t.span.End(err)
}
