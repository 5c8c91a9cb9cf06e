package scanner

import (
	"context"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// meters count what a scanner does.
type meters struct {
	done, failed, unsupported, renewed          *metrics.Counter
	bytes, readLayers, cachedLayers, dbFailures *metrics.Counter
	took                                        *metrics.Histogram
}

func newMeters(m *metrics.Set, s *Service) *meters {
	scans := func(result string) *metrics.Counter {
		return m.Counter("berth_scan_images_total", "Images that were scanned, by result; renewed ones were looked up in a newer database and not read.", "result", result)
	}
	layers := func(from string) *metrics.Counter {
		return m.Counter("berth_scan_layers_total", "Layers of scanned images: read, or known before.", "from", from)
	}
	x := &meters{
		done: scans("done"), failed: scans("failed"), unsupported: scans("unsupported"), renewed: scans("renewed"),
		bytes:      m.Counter("berth_scan_read_bytes_total", "Bytes of layers that were read."),
		readLayers: layers("store"), cachedLayers: layers("cache"),
		dbFailures: m.Counter("berth_scan_database_failures_total", "Attempts to fetch the vulnerability database that failed."),
		took:       m.Durations("berth_scan_seconds", "Time that the scan of an image took.", []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second, 100 * time.Second, 300 * time.Second}),
	}
	m.Collect(metrics.GaugeKind, "berth_scan_queue", "Images by state.", func(e *metrics.Emitter) {
		ctx, cancel := context.WithTimeout(s.ctx, time.Second)
		defer cancel()
		states, _, err := s.store.counts(ctx, "")
		if err != nil {
			return
		}
		for _, state := range []registry.ScanState{registry.ScanQueued, registry.ScanRunning, registry.ScanDone, registry.ScanFailed, registry.ScanUnsupported} {
			e.Emit(float64(states[string(state)]), "state", string(state))
		}
	})
	m.Collect(metrics.GaugeKind, "berth_scan_database_age_seconds", "Time since the vulnerability database was made; there is no value without one.", func(e *metrics.Emitter) {
		if at := s.vulns.Current().Updated; at > 0 {
			e.Emit(s.o.Now().Sub(time.UnixMicro(at)).Seconds())
		}
	})
	return x
}

func (m *meters) scanned(state registry.ScanState, took time.Duration) {
	switch state {
	case registry.ScanDone:
		m.done.Add(1)
	case registry.ScanFailed:
		m.failed.Add(1)
	default:
		m.unsupported.Add(1)
	}
	m.took.Observe(took)
}
