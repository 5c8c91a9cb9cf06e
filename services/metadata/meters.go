package metadata

import "github.com/berth-registry/berth/registry/metrics"

// meters count what a catalog does.
type meters struct {
	manifests, blobs lookups
	removed          *metrics.Counter
	removedBytes     *metrics.Counter
}

// lookups count reads by whether a cache had the answer.
type lookups struct{ hit, miss *metrics.Counter }

func (l lookups) count(hit bool) {
	if hit {
		l.hit.Inc()
	} else {
		l.miss.Inc()
	}
}

func newMeters(m *metrics.Set) *meters {
	in := func(cache string) lookups {
		const name, help = "berth_row_cache_lookups_total", "Reads of the catalog, by whether its cache of rows had the answer."
		return lookups{m.Counter(name, help, "cache", cache, "result", "hit"), m.Counter(name, help, "cache", cache, "result", "miss")}
	}
	return &meters{
		manifests:    in("manifests"),
		blobs:        in("blobs"),
		removed:      m.Counter("zot_gc_deleted_total", "What was removed because nothing refers to it.", "type", "blob"),
		removedBytes: m.Counter("berth_gc_removed_bytes_total", "Bytes of blobs that were removed because nothing refers to them."),
	}
}
