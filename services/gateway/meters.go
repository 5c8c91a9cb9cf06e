package gateway

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
)

// meters count what a gateway does. Nothing that a client chooses becomes a
// label: paths count as the pattern they match, methods and statuses as one of a
// fixed list, and repositories have [repoRoom] places.
type meters struct {
	set      *metrics.Set
	inFlight *metrics.Gauge
	received *metrics.Counter
	sent     *metrics.Counter
	aborted  [2]*metrics.Counter // by client, by us
	limited  *metrics.Counter

	cacheHits, cacheMisses *metrics.Counter // of manifests

	repos *metrics.Top[repoMeter]

	// Made when first used.
	requests [nVerbs][maxStatus]atomic.Pointer[metrics.Counter]
	byMethod [nVerbs]atomic.Pointer[metrics.Histogram]
	byRoute  [nResources][nVerbs][nClasses]atomic.Pointer[metrics.Histogram]
}

// repoMeter counts what is done with a repository. Only requests that succeed
// count.
type repoMeter struct {
	downloads, uploads metrics.Counter // of manifests
	requests, busy     metrics.Counter // busy in nanoseconds
}

// repoRoom is how many repositories have series of their own.
const repoRoom = 100

// patterns are the label values for what paths name.
var patterns = [nResources]string{
	noResource:   "unknown",
	rootPage:     "/",
	livez:        "/livez",
	readyz:       "/readyz",
	startupz:     "/startupz",
	metricsPage:  "/metrics",
	restAPI:      "/api/v1/{path}",
	identityPath: "/zot/auth/{path}",
	apiBase:      "/v2/",
	catalog:      "/v2/_catalog",
	discover:     "/v2/_oci/ext/discover",
	mgmt:         "/v2/_zot/ext/mgmt",
	cosignKeys:   "/v2/_zot/ext/cosign",
	notaryCerts:  "/v2/_zot/ext/notation",
	searchAPI:    "/v2/_zot/ext/search",
	userPrefs:    "/v2/_zot/ext/userprefs",
	tagList:      "/v2/{name}/tags/list",
	manifest:     "/v2/{name}/manifests/{reference}",
	blob:         "/v2/{name}/blobs/{digest}",
	uploads:      "/v2/{name}/blobs/uploads/",
	upload:       "/v2/{name}/blobs/uploads/{id}",
	referrers:    "/v2/{name}/referrers/{digest}",
}

// verbs are the label values for methods. The last stands for all others.
var verbs = [...]string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "other",
}

const (
	nVerbs    = len(verbs)
	maxStatus = 600
	nClasses  = 6 // 2xx is 2; 0 and 1 are for none
)

var classes = [nClasses]string{"none", "1xx", "2xx", "3xx", "4xx", "5xx"}

// zotBounds are the buckets of zot's dashboards.
var zotBounds = []time.Duration{
	50 * time.Millisecond, 500 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second, time.Minute, 10 * time.Minute,
}

func newMeters(set *metrics.Set, cache *manifestCache) *meters {
	const (
		aborted   = "Answers that broke off after their header was sent, by who broke them."
		lookups   = "Manifests that clients asked for, by whether their bytes were in memory."
		lookupsAt = "berth_manifest_cache_lookups_total"
	)
	m := &meters{
		set:         set,
		inFlight:    set.Gauge("berth_http_requests_in_flight", "Requests that are being answered."),
		received:    set.Counter("berth_http_received_bytes_total", "Bytes of request bodies, counted when the request ends."),
		sent:        set.Counter("berth_http_sent_bytes_total", "Bytes of answers' bodies, counted when the request ends."),
		limited:     set.Counter("berth_http_rate_limited_total", "Requests refused because their client makes too many (http.ratelimit)."),
		cacheHits:   set.Counter(lookupsAt, lookups, "result", "hit"),
		cacheMisses: set.Counter(lookupsAt, lookups, "result", "miss"),
		repos:       metrics.NewTop[repoMeter](repoRoom, nil),
	}
	for i, by := range []string{"client", "server"} {
		m.aborted[i] = set.Counter("berth_http_aborted_total", aborted, "by", by)
	}
	set.Func(metrics.GaugeKind, "berth_manifest_cache_bytes", "Memory that manifests kept by the gateway take.", cache.bytes)

	const room = " Of the repositories used last; all others count as " + metrics.Other + "."
	m.perRepo(metrics.CounterKind, "zot_repo_downloads_total", "Manifests sent."+room, func(e *metrics.Emitter, repo string, r *repoMeter) {
		e.Emit(float64(r.downloads.Value()), "repo", repo)
	})
	m.perRepo(metrics.CounterKind, "zot_repo_uploads_total", "Manifests received."+room, func(e *metrics.Emitter, repo string, r *repoMeter) {
		e.Emit(float64(r.uploads.Value()), "repo", repo)
	})
	m.perRepo(metrics.SummaryKind, "zot_http_repo_latency_seconds", "Time to answer requests that succeeded."+room, func(e *metrics.Emitter, repo string, r *repoMeter) {
		e.EmitSummary(time.Duration(r.busy.Value()), r.requests.Value(), "repo", repo)
	})
	return m
}

func (m *meters) perRepo(kind metrics.Kind, name, help string, emit func(*metrics.Emitter, string, *repoMeter)) {
	m.set.Collect(kind, name, help, func(e *metrics.Emitter) {
		m.repos.Each(func(repo string, r *repoMeter) { emit(e, repo, r) })
	})
}

// done counts a request that took so long and ended with err, nil if it did not
// end in an error.
func (m *meters) done(x *exchange, took time.Duration, err error) {
	verb := verbOf(x.r.Method)
	status := max(min(x.status, maxStatus-1), 0)
	m.requestsOf(verb, status).Inc()
	m.methodLatency(verb).Observe(took)
	m.routeLatency(x.resource, verb, status/100).Observe(took)
	m.received.Add(x.body.got)
	m.sent.Add(x.sent)
	switch {
	case err == nil:
	case status < 400 && registry.AsError(err).Code == registry.Canceled:
		m.aborted[0].Inc()
	case status < 400:
		m.aborted[1].Inc()
	}
	if x.repo == "" || status >= 400 || err != nil {
		return
	}
	// What succeeds otherwise, OPTIONS or the beginning of an upload, does not
	// prove that the repository exists.
	exists := (x.resource == manifest || x.resource == blob) && x.r.Method != http.MethodOptions
	r := m.repos.Get(string(x.repo), exists)
	r.requests.Inc()
	r.busy.Add(int64(took))
	if x.resource == manifest && status < 300 {
		switch x.r.Method {
		case http.MethodGet:
			r.downloads.Inc()
		case http.MethodPut:
			r.uploads.Inc()
		}
	}
}

func verbOf(method string) int {
	for i, v := range verbs[:nVerbs-1] {
		if v == method {
			return i
		}
	}
	return nVerbs - 1
}

// requestsOf and those below return a metric that is made when it is first used:
// two that make it at once get the same from the set.

func (m *meters) requestsOf(verb, status int) *metrics.Counter {
	p := &m.requests[verb][status]
	c := p.Load()
	if c == nil {
		c = m.set.Counter("zot_http_requests_total", "Requests answered.", "method", verbs[verb], "code", strconv.Itoa(status))
		p.Store(c)
	}
	return c
}

func (m *meters) methodLatency(verb int) *metrics.Histogram {
	p := &m.byMethod[verb]
	h := p.Load()
	if h == nil {
		h = m.set.Durations("zot_http_method_latency_seconds", "Time to answer, by method.", zotBounds, "method", verbs[verb])
		p.Store(h)
	}
	return h
}

func (m *meters) routeLatency(res resource, verb, class int) *metrics.Histogram {
	p := &m.byRoute[res][verb][class]
	h := p.Load()
	if h == nil {
		h = m.set.Durations("berth_http_request_duration_seconds", "Time to answer, by what was asked for.", metrics.Latency,
			"route", patterns[res], "method", verbs[verb], "class", classes[class])
		p.Store(h)
	}
	return h
}

// scrape answers with the metrics of the process.
func (g *Gateway) scrape(x *exchange) error {
	x.set("Cache-Control", "no-store")
	// A gateway that lets everybody in has nothing to ask: metrics are there when the
	// catalog is not.
	if !g.auth.Load().OpenMetrics() {
		may, err := g.catalog.Allowed(x.context(), x.actor, "", registry.ActMetrics)
		if err != nil {
			return doing("asking who may read metrics", err)
		}
		if may == registry.NoActions {
			return x.actor.Refusal("")
		}
	}
	return x.bytes(http.StatusOK, metrics.ContentType, g.meters.set.Text())
}
