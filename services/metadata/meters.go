package metadata

import "github.com/berth-registry/berth/registry/metrics"

// meters count what a catalog does.
type meters struct {
	manifests, blobs lookups
	removed          *metrics.Counter
	removedBytes     *metrics.Counter
	retired          *metrics.Counter // tags
	evicted          *metrics.Counter // cached manifests
	retentionRuns    *metrics.Counter

	scrubbed          struct{ good, damaged, failed *metrics.Counter }
	scrubbedBytes     *metrics.Counter
	scrubbedManifests *metrics.Counter
	healed            *metrics.Counter

	// What the collector does.
	reviews, runs, failed, goneManifests, goneLinks, goneRepositories *metrics.Counter
}

// collected counts what a collection did. Blobs count when their bytes are gone.
func (m *meters) collected(d Collected) {
	if d.Reviews > 0 {
		m.runs.Inc()
	}
	m.reviews.Add(d.Reviews)
	m.goneManifests.Add(d.Manifests)
	m.goneLinks.Add(d.Links)
	m.goneRepositories.Add(d.Repositories)
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
	const runs, runsHelp = "zot_gc_runs_total", "Batches of reviews that the collector decided on."
	const deleted, help = "zot_gc_deleted_total", "What was removed because nothing refers to it."
	const scrubbed, scrubHelp = "berth_scrub_blobs_total", "Copies of blobs that were compared with their digests in the background, by what came of it."
	meters := &meters{
		scrubbedBytes:     m.Counter("berth_scrub_bytes_total", "Bytes of blobs that were compared with their digests in the background."),
		scrubbedManifests: m.Counter("berth_scrub_manifests_total", "Manifests that were compared with their digests in the background."),
		healed:            m.Counter("berth_scrub_healed_total", "Damaged blobs that were pushed again."),

		reviews: m.Counter("berth_gc_reviews_total", "How often something was looked at that may have lost its last reference."),
		runs:    m.Counter(runs, runsHelp, "error", "false"),
		failed:  m.Counter(runs, runsHelp, "error", "true"),

		goneManifests:    m.Counter(deleted, help, "type", "manifest"),
		goneLinks:        m.Counter(deleted, help, "type", "link"),
		goneRepositories: m.Counter(deleted, help, "type", "repository"),

		manifests:    in("manifests"),
		blobs:        in("blobs"),
		removed:      m.Counter(deleted, help, "type", "blob"),
		removedBytes: m.Counter("berth_gc_removed_bytes_total", "Bytes of blobs that were removed because nothing refers to them."),
		evicted:      m.Counter("berth_cache_evicted_manifests_total", "Cached manifests that were evicted."),
		retired:      m.Counter("berth_retention_deleted_tags_total", "Tags that retention policies did not keep."),

		retentionRuns: m.Counter("berth_retention_runs_total", "Runs of the retention policies over all repositories that came to their end."),
	}
	meters.scrubbed.good = m.Counter(scrubbed, scrubHelp, "result", "ok")
	meters.scrubbed.damaged = m.Counter(scrubbed, scrubHelp, "result", "affected")
	meters.scrubbed.failed = m.Counter(scrubbed, scrubHelp, "result", "error")
	return meters
}
