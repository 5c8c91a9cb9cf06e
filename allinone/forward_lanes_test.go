package allinone

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
)

// TestForwardBlocked: what can't be passed on holds up only what has to wait for it: a
// repository that hangs no other repository, a tag that fails no other tag.
func TestForwardBlocked(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	to, err := url.Parse(hq.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	var hung atomic.Bool
	hang := make(chan struct{})
	var mended atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/stuck/"):
			hung.Store(true)
			select {
			case <-hang:
			case <-r.Context().Done():
				return
			}
		case strings.HasSuffix(r.URL.Path, "/manifests/bad") && !mended.Load():
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	link := newLine(t, front.URL)
	e := newEnd(t, link, "", false)
	stuck := e.push("stuck/app", "v1", []byte("stuck"))
	waitFor(t, hung.Load)
	bad := []registry.Digest{e.push("team/app", "bad", []byte("bad 1")), e.push("team/app", "bad", []byte("bad 2"))}
	good := e.push("team/app", "good", []byte("good"))
	other := e.push("team/other", "v1", []byte("other"))
	waitFor(t, func() bool { return len(hq.history("team/app", "good")) > 0 && len(hq.history("team/other", "v1")) > 0 })
	if n := len(hq.history("stuck/app", "v1")) + len(hq.history("team/app", "bad")); n > 0 {
		t.Errorf("void: %d of what is blocked was passed on", n)
	}
	waitFor(t, func() bool { return len(e.forwards(true)) <= 3 })
	close(hang)
	mended.Store(true)
	e.settled(link.name())
	for name, want := range map[string][]registry.Digest{"stuck/app:v1": {stuck}, "team/app:bad": bad, "team/app:good": {good}, "team/other:v1": {other}} {
		repo, tag, _ := cutLast(name)
		if diff := cmp.Diff(want, hq.history(registry.Name(repo), registry.Tag(tag))); diff != "" {
			t.Errorf("what %s was there differs (-want +got):\n%s", name, diff)
		}
	}
}

// TestForwardTwoSyncers: of two syncers on one database both take pushes, and one passes
// them on, in order and each once; when it ends the other one does.
func TestForwardTwoSyncers(t *testing.T) {
	server := pgtest.Shared(t)
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	link := newLine(t, hq.url)
	a := newEdge(t, false)
	b := newEdgeOver(t, a.blobs, a.catalog, false)
	a.dsn = pgtest.DSN(server.Port, server.Database(t))
	b.dsn = a.dsn
	a.start(link.rule(""))
	b.start(link.rule(""))
	both := [2]*edge{a, b}
	var want []registry.Digest
	push := func(n int) {
		for i := range n {
			want = append(want, both[i%2].push("team/app", "v1", fmt.Appendf(nil, "layer %d", len(want))))
		}
	}
	push(6)
	waitFor(t, func() bool {
		for _, e := range both { // one of them passes on
			if err := e.mirror.get().Reforward(t.Context(), link.name()); err != nil {
				t.Fatal(err)
			}
		}
		return len(a.forwards(true)) == 0
	})
	a.stop()
	a.mirror.mu.Lock()
	a.mirror.now = b.mirror.get()
	a.mirror.mu.Unlock()
	push(3)
	waitFor(t, func() bool { return len(b.forwards(true)) == 0 })
	if diff := cmp.Diff(want, hq.history("team/app", "v1")); diff != "" {
		t.Errorf("what the tag was there differs (-want +got):\n%s", diff)
	}
	if n := hq.puts.Load(); n != int64(len(want)) {
		t.Errorf("%d manifests were put for %d pushes", n, len(want))
	}
}
