package gateway

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// scraped returns the series of a text by name and labels.
func scraped(t *testing.T, text string) map[string]float64 {
	t.Helper()
	all := make(map[string]float64)
	for line := range strings.Lines(text) {
		if line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if _, twice := all[line[:i]]; err != nil || twice {
			t.Fatalf("%q: %v, there before: %v", line, err, twice)
		}
		all[line[:i]] = v
	}
	return all
}

// metered is a world that counts and shows it.
func metered() *world {
	w := newWorld()
	w.deps.Metrics = metrics.New()
	w.cfg.Metrics = "/metrics"
	return w
}

func TestMetrics(t *testing.T) {
	url := metered().serve(t)
	pushImage(t, url, "a/b", "t")
	blob := pushBlob(t, url, "a/b", kib)
	for range 3 {
		do(t, "GET", url+"/v2/a/b/manifests/t", nil).want(t, 200)
	}
	do(t, "HEAD", url+"/v2/a/b/manifests/t", nil).want(t, 200)
	do(t, "GET", url+"/v2/a/b/blobs/"+string(blob), nil).want(t, 200)
	do(t, "GET", url+"/v2/secret/name/manifests/t", nil).want(t, 404)
	do(t, "POST", url+"/livez", nil).want(t, 405)

	res := do(t, "GET", url+"/metrics", nil).want(t, 200)
	if got := res.header.Get("Content-Type"); got != metrics.ContentType {
		t.Errorf("Content-Type is %q", got)
	}
	got := scraped(t, res.body)
	for series, want := range map[string]float64{
		`zot_http_requests_total{method="GET",code="200"}`:                                                                        4,
		`zot_http_requests_total{method="GET",code="404"}`:                                                                        1,
		`zot_http_requests_total{method="HEAD",code="200"}`:                                                                       1,
		`zot_http_requests_total{method="POST",code="405"}`:                                                                       1,
		`zot_http_method_latency_seconds_count{method="GET"}`:                                                                     5,
		`zot_repo_downloads_total{repo="a/b"}`:                                                                                    3,
		`zot_repo_uploads_total{repo="a/b"}`:                                                                                      1,
		`zot_repo_downloads_total{repo="_other"}`:                                                                                 0,
		`berth_http_request_duration_seconds_count{route="/v2/{name}/manifests/{reference}",method="GET",class="2xx"}`:            3,
		`berth_http_request_duration_seconds_bucket{route="/v2/{name}/manifests/{reference}",method="GET",class="4xx",le="+Inf"}`: 1,
		`berth_http_request_duration_seconds_count{route="/v2/{name}/blobs/{digest}",method="GET",class="2xx"}`:                   1,
		`berth_http_request_duration_seconds_count{route="/livez",method="POST",class="4xx"}`:                                     1,
		`berth_http_requests_in_flight`:                                                                                           1,
		`berth_http_aborted_total{by="client"}`:                                                                                   0,
		`berth_http_aborted_total{by="server"}`:                                                                                   0,
		`berth_manifest_cache_lookups_total{result="hit"}`:                                                                        2,
		`berth_manifest_cache_lookups_total{result="miss"}`:                                                                       1,
	} {
		if v, ok := got[series]; !ok || v != want {
			t.Errorf("%s is %v (there: %v), want %v", series, v, ok, want)
		}
	}
	// Fractions of a second: so few requests can't have taken a whole one each.
	if sum := got[`zot_http_repo_latency_seconds_sum{repo="a/b"}`]; sum <= 0 || got[`zot_http_repo_latency_seconds_count{repo="a/b"}`] < 5 {
		t.Errorf("repository latency: %v", sum)
	}
	for _, name := range []string{"berth_http_received_bytes_total", "berth_http_sent_bytes_total"} {
		if got[name] < 1024 {
			t.Errorf("%s is %v", name, got[name])
		}
	}
	if got["berth_manifest_cache_bytes"] <= 0 || strings.Contains(res.body, "secret") {
		t.Errorf("cache of %v bytes; names that do not exist are shown: %v", got["berth_manifest_cache_bytes"], strings.Contains(res.body, "secret"))
	}
}

// TestMetricsOnlyWhenAsked: without the extension there is no such page, and it
// is where the config file says.
func TestMetricsOnlyWhenAsked(t *testing.T) {
	w := newWorld()
	do(t, "GET", w.serve(t)+"/metrics", nil).want(t, 404)
	w.cfg.Metrics = "/internal/prometheus"
	url := w.serve(t)
	do(t, "GET", url+"/metrics", nil).want(t, 404)
	do(t, "GET", url+"/internal/prometheus", nil).want(t, 200)
	do(t, "POST", url+"/internal/prometheus", nil).want(t, 405)
}

// TestMetricsWhereTheFileSays: also below paths that have an owner, and with characters
// that a URL has escaped.
func TestMetricsWhereTheFileSays(t *testing.T) {
	for path, escaped := range map[string]string{"/api/v1/metrics": "", "/zot/auth/metrics": "", "/my metrics": "/my%20metrics"} {
		w := newWorld()
		w.withIdentity(t, identity.Options{}, "alice")
		w.deps.REST, w.cfg.Metrics, w.deps.Metrics = echo, path, metrics.New()
		got := do(t, "GET", w.serve(t)+cmp.Or(escaped, path), nil, basic("alice", "alice")...).want(t, 200)
		if !strings.Contains(got.body, "zot_http_requests_total") && !strings.Contains(got.body, "# TYPE") {
			t.Errorf("%s: got %.100s", path, got.body)
		}
	}
}

// TestMetricsOfBrokenAnswers counts what no status shows.
func TestMetricsOfBrokenAnswers(t *testing.T) {
	w := metered()
	g := w.gateway(t)
	for err, by := range map[error]string{
		clientGone(http.ErrBodyNotAllowed): "client",
		registry.ErrInternal:               "server",
	} {
		x := &exchange{r: httptest.NewRequest("GET", "/", nil), status: 200}
		g.meters.done(x, 0, err)
		series := fmt.Sprintf("berth_http_aborted_total{by=%q}", by)
		if got := scraped(t, string(w.deps.Metrics.Text()))[series]; got != 1 {
			t.Errorf("%s is %v, want 1", series, got)
		}
	}
}

// TestS118SeriesAreBounded sends what a scanner would, and what many users do.
func TestS118SeriesAreBounded(t *testing.T) {
	w := metered()
	g := w.gateway(t)
	send := func(method, path string, body string, header ...string) int {
		r := httptest.NewRequest("GET", "/", strings.NewReader(body))
		r.Method, r.URL.Path, r.RequestURI = method, path, path
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		d := &discard{h: make(http.Header)}
		g.ServeHTTP(d, r)
		return d.status
	}
	random := rand.New(rand.NewPCG(1, 2))
	word := func() string { return strconv.FormatUint(random.Uint64(), 36) }
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for range n {
		method := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "X" + word()}[random.IntN(8)]
		path := []string{
			"/" + word(),
			"/v2/" + word() + "/" + word() + "/manifests/" + word(),
			"/v2/" + word() + "/tags/list",
			"/v2/" + word() + "/blobs/sha256:" + word(),
			"/v2/" + word() + "/blobs/uploads/",
			"/v2/" + word() + "/blobs/uploads/" + word(),
			"/v2/" + word() + "/referrers/" + word(),
			"/v2/_" + word(),
		}[random.IntN(8)]
		send(method, path, "", "User-Agent", word(), "X-Forwarded-For", word(), "Accept", word())
	}
	// Names that exist are many, too.
	for i := range 500 {
		repo := fmt.Sprintf("/v2/r%d/manifests/t", i)
		body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
		if got := send("PUT", repo, body, "Content-Type", "application/vnd.oci.image.index.v1+json"); got != 201 {
			t.Fatalf("push: %d", got)
		}
		send("GET", repo, "")
	}
	got := scraped(t, string(w.deps.Metrics.Text()))
	t.Logf("%d series", len(got))
	if len(got) > 2000 {
		t.Errorf("%d series, want at most 2000", len(got))
	}
	repos := 0
	for series := range got {
		if strings.HasPrefix(series, "zot_repo_downloads_total{") {
			repos++
		}
	}
	if repos != repoRoom+1 || got[`zot_repo_downloads_total{repo="_other"}`] != 500-repoRoom {
		t.Errorf("%d repositories have series, %v downloads are of others", repos, got[`zot_repo_downloads_total{repo="_other"}`])
	}
}

func TestPatternsAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for res, p := range patterns {
		if p == "" || seen[p] {
			t.Errorf("resource %d counts as %q", res, p)
		}
		seen[p] = true
		if strings.Contains(p, "{") || resource(res) == noResource || resource(res) == metricsPage {
			continue
		}
		if rt, err := parsePath(p); err != nil || rt.resource != resource(res) {
			t.Errorf("%s is resource %d, %v; want %d", p, rt.resource, err, res)
		}
	}
}
