package gateway

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// sickBlobs feels as it is told.
type sickBlobs struct {
	registry.Blobs
	health registry.Health
	err    error
}

func (b sickBlobs) Check(context.Context) (registry.Health, error) { return b.health, b.err }

func TestProbes(t *testing.T) {
	tests := map[string]struct {
		blobs                  sickBlobs
		live, ready, forWrites int
		says                   string
	}{
		"well":      {sickBlobs{}, 200, 200, 200, "ok\n"},
		"read-only": {sickBlobs{health: registry.Health{ReadOnly: "fsync failed"}}, 200, 200, 503, "ok\nblobs: read-only: fsync failed\n"},
		"broken":    {sickBlobs{err: errors.New("secret detail")}, 200, 503, 503, "blobs: unavailable\n"},
	}
	for name, test := range tests {
		w := newWorld()
		test.blobs.Blobs = w.deps.Blobs
		w.deps.Blobs = test.blobs
		url := w.serve(t)
		do(t, "GET", url+"/livez", nil).want(t, test.live)
		do(t, "GET", url+"/startupz", nil).want(t, test.live)
		do(t, "GET", url+"/readyz?writes", nil).want(t, test.forWrites)
		if got := do(t, "GET", url+"/readyz", nil).want(t, test.ready).body; got != test.says {
			t.Errorf("%s: says %q, want %q", name, got, test.says)
		}
	}
}

func TestReadinessGoesDownFirst(t *testing.T) {
	w := newWorld()
	w.deps.Ready = func() bool { return false }
	url := w.serve(t)
	do(t, "GET", url+"/readyz", nil).want(t, 503)
	do(t, "GET", url+"/livez", nil).want(t, 200)
	do(t, "GET", url+"/v2/", nil).want(t, 200)
}

// TestStoppingEndsConnections looks at connections that clients would keep.
func TestStoppingEndsConnections(t *testing.T) {
	w := newWorld()
	var stopping atomic.Bool
	w.deps.Ready = func() bool { return !stopping.Load() }
	url := w.serve(t)
	for _, stop := range []bool{false, true} {
		stopping.Store(stop)
		for _, path := range []string{"/v2/", "/readyz", "/v2/a/manifests/none"} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.Close != stop {
				t.Errorf("%s, stopping: %t: says that the connection ends: %t", path, stop, res.Close)
			}
		}
	}
}

func TestPageEscapesWhatItIsGiven(t *testing.T) {
	const markup = `<script>"'&`
	p := page{version: markup}
	got := string(p.render(markup))
	if strings.Contains(got, "<script>") || strings.Count(got, "&lt;script&gt;&#34;&#39;&amp;") != 4 {
		t.Errorf("got %s", got)
	}
	if got := string(p.render(strings.Repeat("h", 300))); strings.Contains(got, "hhhh") {
		t.Error("an overlong host is shown")
	}
}
