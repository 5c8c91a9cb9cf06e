package gateway

import (
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// discard is a response nobody reads, cheaper than httptest's recorder.
type discard struct {
	h      http.Header
	status int
	n      int64
}

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(p []byte) (int, error) { d.n += int64(len(p)); return len(p), nil }

func newRequest(method, target, body string) *http.Request {
	return httptest.NewRequest(method, target, strings.NewReader(body))
}

// hot are the requests that have to be cheap, and how many allocations each may
// make in the gateway and the ports together.
var hot = []struct {
	name, method, target string
	allocs               float64
}{
	{"ManifestByTag", "GET", "/v2/a/manifests/t", 10},
	{"ManifestHead", "HEAD", "/v2/a/manifests/t", 10},
	{"Blob1KiB", "GET", "/v2/a/blobs/" + string(registry.SHA256.FromString(kib)), 11},
	{"Base", "GET", "/v2/", 9},
}

var kib = strings.Repeat("x", 1024)

// hotGateway has something to serve and an access log that is on.
func hotGateway(t testing.TB) *Gateway {
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(io.Discard, nil))
	url := w.serve(t)
	pushImage(t, url, "a", "t")
	pushBlob(t, url, "a", kib)
	return w.gateway(t)
}

// TestHotPathsAllocateLittle guards against the costs that creep in. A collection
// empties the pools in the middle of a run, and the race detector leaves things
// out of them at random, so the least of some runs counts.
func TestHotPathsAllocateLittle(t *testing.T) {
	g := hotGateway(t)
	for _, h := range hot {
		r := httptest.NewRequest(h.method, h.target, nil)
		d := &discard{h: make(http.Header, 16)}
		got := math.Inf(1)
		for range 10 {
			got = min(got, testing.AllocsPerRun(100, func() {
				clear(d.h)
				g.ServeHTTP(d, r)
			}))
		}
		if d.status != 200 {
			t.Fatalf("%s: status %d", h.name, d.status)
		}
		t.Logf("%s: %v allocations", h.name, got)
		if got > h.allocs {
			t.Errorf("%s: %v allocations, want at most %v", h.name, got, h.allocs)
		}
	}
}

func BenchmarkHandler(b *testing.B) {
	g := hotGateway(b)
	for _, h := range hot {
		b.Run(h.name, func(b *testing.B) {
			r := httptest.NewRequest(h.method, h.target, nil)
			d := &discard{h: make(http.Header, 16)}
			b.ReportAllocs()
			for b.Loop() {
				clear(d.h)
				g.ServeHTTP(d, r)
			}
		})
	}
}
