package gateway

import (
	"context"
	"errors"
	"strings"
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
