package s3

import (
	"net/http"
	"strings"
	"time"

	"github.com/berth-registry/berth/registry/metrics"
)

// meters count the requests of a pool, each attempt by itself. Methods may be
// called on nil.
type meters struct {
	set  *metrics.Set
	pool string
}

// Observe implements [blobstore.Observed].
func (d *Driver) Observe(m *metrics.Set, pool string) {
	d.meters.Store(&meters{set: m, pool: pool})
}

// count counts an attempt that was answered with resp, or ended with err.
func (m *meters) count(req *http.Request, resp *http.Response, err error, began time.Time) {
	if m == nil {
		return
	}
	op, outcome := operation(req), "no answer"
	if err == nil {
		outcome = outcomes[min(max(resp.StatusCode/100, 0), len(outcomes)-1)]
		if resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests {
			outcome = "throttled"
		}
	}
	m.set.Counter("berth_s3_requests_total", "Requests to the object store, repetitions too, by how they ended.",
		"pool", m.pool, "operation", op, "outcome", outcome).Inc()
	m.set.Durations("berth_s3_request_duration_seconds", "Time from a request to the header of its answer.", metrics.Latency,
		"pool", m.pool, "operation", op).Since(began)
	if attempt := req.Header.Get("Amz-Sdk-Request"); attempt != "" && !strings.Contains(attempt, "attempt=1;") {
		m.set.Counter("berth_s3_retries_total", "Requests to the object store that were repetitions.", "pool", m.pool, "operation", op).Inc()
	}
	const bytes = "Bytes of requests to the object store, and of its answers as far as it told their length."
	m.set.Counter("berth_s3_bytes_total", bytes, "pool", m.pool, "direction", "sent").Add(req.ContentLength)
	if err == nil && req.Method != http.MethodHead {
		m.set.Counter("berth_s3_bytes_total", bytes, "pool", m.pool, "direction", "received").Add(resp.ContentLength)
	}
}

// outcomes are label values by the first digit of the status.
var outcomes = [...]string{"other", "other", "ok", "redirected", "refused", "failed", "other"}

// operation returns the label for what a request asks for.
func operation(req *http.Request) string {
	q := req.URL.Query()
	switch {
	case req.Method == http.MethodGet && q.Has("uploads"):
		return "list uploads"
	case req.Method == http.MethodGet && (q.Has("list-type") || q.Has("prefix")):
		return "list"
	case req.Method == http.MethodGet && q.Has("uploadId"):
		return "list parts"
	case req.Method == http.MethodPost && q.Has("uploads"):
		return "begin upload"
	case req.Method == http.MethodPost && q.Has("uploadId"):
		return "complete upload"
	case req.Method == http.MethodPost && q.Has("delete"):
		return "delete many"
	case req.Method == http.MethodPut && q.Has("partNumber"):
		return "put part"
	case req.Method == http.MethodDelete && q.Has("uploadId"):
		return "abort upload"
	}
	switch req.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return strings.ToLower(req.Method)
	}
	return "other"
}
