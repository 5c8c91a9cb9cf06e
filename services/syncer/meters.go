package syncer

import (
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// meters count what a syncer does.
type meters struct {
	fresh, confirmed, stale, negative             *metrics.Counter
	manifests, blobs, mounted                     *metrics.Counter
	upstreamBytes, resumed, relayed               *metrics.Counter
	failedFills, wrong, joined                    *metrics.Counter
	filling, readers                              *metrics.Gauge
	healed                                        *metrics.Counter
	copied, copyFailed, copyRuns, skipped, pruned *metrics.Counter
	held, noticed, unsigned                       *metrics.Counter
	delivered, kept, refused, dropped             *metrics.Counter
	forwardedBytes, forwardResumed                *metrics.Counter
}

func newMeters(m *metrics.Set, s *Service) *meters {
	tag := func(result string) *metrics.Counter {
		return m.Counter("berth_sync_tag_requests_total", "Requests for mirrored tags, by what was answered: fresh without asking, confirmed by the upstream, stale because it can't be asked, negative if it was known to have none.", "result", result)
	}
	const content, contentHelp = "berth_sync_fetched_total", "Content that came from upstreams, by kind; mounted is what they have and was here already."
	x := &meters{
		fresh: tag("fresh"), confirmed: tag("confirmed"), stale: tag("stale"), negative: tag("negative"),
		manifests:     m.Counter(content, contentHelp, "kind", "manifest"),
		blobs:         m.Counter(content, contentHelp, "kind", "blob"),
		mounted:       m.Counter(content, contentHelp, "kind", "mounted"),
		upstreamBytes: m.Counter("berth_sync_upstream_bytes_total", "Bytes of blobs that upstreams sent."),
		relayed:       m.Counter("berth_sync_relayed_bytes_total", "Bytes of blobs that came from another syncer, which was fetching them."),
		resumed:       m.Counter("berth_sync_resumed_bytes_total", "Bytes of blobs that did not have to be sent again after a restart."),
		failedFills:   m.Counter("berth_sync_failed_fills_total", "Fetches of blobs that failed."),
		wrong:         m.Counter("berth_sync_wrong_content_total", "Blobs whose bytes were other than their digest says. None was stored."),
		joined:        m.Counter("berth_sync_joined_total", "Requests for a blob that was being fetched already."),
		filling:       m.Gauge("berth_sync_fills", "Blobs that are being fetched."),
		healed:        m.Counter("berth_sync_healed_total", "Blobs and manifests that were damaged and have been fetched again."),
		readers:       m.Gauge("berth_sync_readers", "Requests that follow a blob which is being fetched."),
		copied:        m.Counter("berth_sync_copied_tags_total", "Tags that scheduled copies have looked at, by result.", "result", "ok"),
		copyFailed:    m.Counter("berth_sync_copied_tags_total", "Tags that scheduled copies have looked at, by result.", "result", "error"),
		pruned:        m.Counter("berth_sync_pruned_tags_total", "Mirrored tags that were removed because they are gone upstream."),
		held:          m.Counter("berth_sync_held_tags_total", "Moves of tags upstream that the rule's tagMoves does not follow."),
		noticed:       m.Counter("berth_sync_notices_total", "Events of upstreams about a tag, by what became of them.", "result", "noted"),
		unsigned:      m.Counter("berth_sync_notices_total", "Events of upstreams about a tag, by what became of them.", "result", "unsigned"),
		skipped:       m.Counter("berth_sync_copied_tags_total", "Tags that scheduled copies have looked at, by result.", "result", "skipped"),
		copyRuns:      m.Counter("berth_sync_runs_total", "Scheduled copies that came to their end."),
	}
	passedOn := func(state registry.ForwardState) *metrics.Counter {
		return m.Counter("berth_sync_forwards_total", "Pushes that were to be passed on to other registries, by how that ended.", "state", string(state))
	}
	x.delivered, x.kept = passedOn(registry.ForwardDelivered), passedOn(registry.ForwardKept)
	x.refused, x.dropped = passedOn(registry.ForwardRefused), passedOn(registry.ForwardDropped)
	x.forwardedBytes = m.Counter("berth_sync_forwarded_bytes_total", "Bytes of blobs that were sent to other registries.")
	x.forwardResumed = m.Counter("berth_sync_forwards_resumed_bytes_total", "Bytes of blobs that did not have to be sent again because an upload went on.")
	m.Collect(metrics.GaugeKind, "berth_sync_upstream_up", "Whether an upstream is asked: 0 while too many requests have failed, or it asked for a pause.", func(e *metrics.Emitter) {
		for _, r := range s.rules() {
			v := 1.0
			if down, _ := r.health(); down {
				v = 0
			}
			e.Emit(v, "rule", r.Name)
		}
	})
	m.Collect(metrics.CounterKind, "berth_sync_upstream_requests_total", "Requests to an upstream.", func(e *metrics.Emitter) {
		for _, r := range s.rules() {
			e.Emit(float64(r.requests()), "rule", r.Name)
		}
	})
	perRule := func(kind metrics.Kind, name, help string, value func(*Rule) float64) {
		m.Collect(kind, name, help, func(e *metrics.Emitter) {
			for _, r := range s.rules() {
				e.Emit(value(r), "rule", r.Name)
			}
		})
	}
	perRule(metrics.GaugeKind, "berth_sync_speed_bytes", "Bytes a second that came from an upstream in the last seconds.", func(r *Rule) float64 {
		r.state.line.mu.Lock()
		defer r.state.line.mu.Unlock()
		return float64(r.state.line.speed.rate(s.now()))
	})
	perRule(metrics.GaugeKind, "berth_sync_month_bytes", "Bytes that came from an upstream in this month (UTC).", func(r *Rule) float64 { return float64(r.state.line.used(s.now())) })
	perRule(metrics.GaugeKind, "berth_sync_month_limit_bytes", "Bytes that may come from an upstream in a month, 0 for no limit.", func(r *Rule) float64 { return float64(r.Monthly) })
	perRule(metrics.GaugeKind, "berth_sync_pulls_left", "Pulls that an upstream says are left, -1 if it does not say.", func(r *Rule) float64 { return float64(r.Hosts[0].Budget()) })
	perRule(metrics.CounterKind, "berth_sync_tag_hits_total", "Requests for mirrored tags that were answered with what was here.", func(r *Rule) float64 { return float64(r.state.hits.Load()) })
	perRule(metrics.CounterKind, "berth_sync_saved_bytes_total", "Bytes of blobs that clients got without being fetched for them.", func(r *Rule) float64 { return float64(r.state.saved.Load()) })
	perRule(metrics.CounterKind, "berth_sync_tag_misses_total", "Requests for mirrored tags that had to wait for the upstream.", func(r *Rule) float64 { return float64(r.state.misses.Load()) })
	m.Collect(metrics.GaugeKind, "berth_sync_tags", "Tags of mirrored repositories by how much of them is here: complete, partial or missing. Counted each ten minutes, at most 20,000.", func(e *metrics.Emitter) {
		if c := s.census.Load(); c != nil {
			for k, n := range *c {
				e.Emit(float64(n), "rule", k.rule, "state", string(k.state))
			}
		}
	})
	return x
}

// forwarded counts pushes that ended in a state.
func (x *meters) forwarded(state registry.ForwardState) *metrics.Counter {
	switch state {
	case registry.ForwardKept:
		return x.kept
	case registry.ForwardRefused:
		return x.refused
	case registry.ForwardDropped:
		return x.dropped
	default:
		return x.delivered
	}
}
