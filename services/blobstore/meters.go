package blobstore

import (
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// Observed is a [Driver] that counts by itself what only it knows.
type Observed interface {
	// Observe is called once, before anything else. pool is the label of what is
	// counted.
	Observe(m *metrics.Set, pool string)
}

// Spacious is a [Driver] whose storage has an end.
type Spacious interface {
	// Space returns how many bytes can still be stored, and how many there are in
	// all.
	Space() (free, size int64, err error)
}

// meters count what happens to a pool.
type meters struct {
	opened    *metrics.Counter
	committed *metrics.Counter
	written   *metrics.Counter
	removed   *metrics.Counter
	publish   *metrics.Histogram
	sync      *metrics.Histogram
	lost      *metrics.Counter
	verified  *metrics.Counter
	damaged   *metrics.Counter
}

// PoolLabel is the label of a pool: its name, or "default".
func PoolLabel(name registry.Pool) string {
	if name == "" {
		return "default"
	}
	return string(name)
}

func newMeters(m *metrics.Set, p *pool) *meters {
	label := []string{"pool", PoolLabel(p.name)}
	m.Func(metrics.GaugeKind, "berth_pool_read_only", "1 if the pool refuses writes because a sync failed.", func() float64 {
		if p.readOnly.Load() != nil {
			return 1
		}
		return 0
	}, label...)
	if p.calls != nil {
		m.Func(metrics.GaugeKind, "berth_pool_oldest_call_seconds", "How long the oldest call that waits for the disk has waited, 0 if none does.", func() float64 {
			return p.calls.Oldest().Seconds()
		}, label...)
	}
	m.Func(metrics.GaugeKind, "berth_uploads_open", "Uploads that this process has open.", func() float64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return float64(len(p.sessions))
	}, label...)
	if s, ok := p.driver.(Spacious); ok {
		m.Func(metrics.GaugeKind, "berth_pool_full", "1 if the pool refuses uploads because too little storage is left.", func() float64 {
			if p.room() != nil {
				return 1
			}
			return 0
		}, label...)
		m.Func(metrics.GaugeKind, "berth_pool_pressure", "How much of the way from the low to the high watermark the storage in use has gone, from 0 to 1.", p.space.pressure, label...)
		const free, size = "berth_pool_free_bytes", "berth_pool_size_bytes"
		m.Collect(metrics.GaugeKind, free, "Bytes that can still be stored.", func(e *metrics.Emitter) {
			if n, _, err := s.Space(); err == nil {
				e.Emit(float64(n), label...)
			}
		})
		m.Collect(metrics.GaugeKind, size, "Bytes of the file system that the pool is in, used ones too.", func(e *metrics.Emitter) {
			if _, n, err := s.Space(); err == nil {
				e.Emit(float64(n), label...)
			}
		})
	}
	if o, ok := p.driver.(Observed); ok {
		o.Observe(m, PoolLabel(p.name))
	}
	return &meters{
		opened:    m.Counter("berth_blobs_opened_total", "Blobs opened to be read.", label...),
		committed: m.Counter("berth_blobs_committed_total", "Blobs made durable.", label...),
		written:   m.Counter("berth_blobs_written_bytes_total", "Bytes of blobs made durable.", label...),
		removed:   m.Counter("berth_blobs_removed_total", "Copies of blobs removed.", label...),
		publish:   m.Durations("berth_blob_publish_duration_seconds", "Time to make a complete upload a durable blob.", metrics.Quick, label...),
		sync:      m.Durations("berth_upload_sync_duration_seconds", "Time to sync what an upload has received so far.", metrics.Quick, label...),
		verified:  m.Counter("berth_blobs_verified_bytes_total", "Bytes of blobs read and hashed to check them.", label...),
		damaged:   m.Counter("berth_blob_damages_total", "Times that bytes read of a blob were not those that were stored.", label...),
		lost:      m.Counter("berth_pool_sync_failures_total", "Syncs that failed, so that bytes may be lost.", label...),
	}
}
