package allinone

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/gateway"
)

// TestSavedBytes: a rule tells how many bytes of blobs clients got that were not fetched
// for them: because they were here, or on their way for others. What is asked for with
// HEAD, and what no rule fetches, does not count.
func TestSavedBytes(t *testing.T) {
	for _, topology := range []string{"linked", "split"} {
		t.Run(topology, func(t *testing.T) { testSavedBytes(t, topology == "split") })
	}
}

func testSavedBytes(t *testing.T, split bool) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	first, second := strings.Repeat("first", 20_000), strings.Repeat("second", 500_000)
	hq.push("team/app", "v1", []byte(first))
	hq.push("team/app", "v2", []byte(second))
	blobs, catalog := memory.NewBlobs(), memory.NewCatalog(memory.CatalogOptions{})
	s := openMirror(t, t.TempDir(), fmt.Sprintf(`{"urls":[%q],"onDemand":true,"content":[{"prefix":"team/**"}]}`, hq.url), blobs, catalog)
	var m registry.Mirror = s
	if split {
		m = rpctest.Mirror(t, s)
	}
	g, err := gateway.New(gateway.Defaults(), gateway.Deps{Blobs: blobs, Catalog: catalog, Mirror: m}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	t.Cleanup(func() { srv.Close(); g.Close() })
	ask := func(method, repo, content, ranged string) {
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+"/v2/"+repo+"/blobs/"+string(registry.SHA256.FromString(content)), http.NoBody)
		if err != nil {
			t.Error(err)
			return
		}
		if ranged != "" {
			req.Header.Set("Range", ranged)
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode > 299 {
			t.Errorf("%s of a blob of %s: %s, %v", method, repo, resp.Status, err)
		}
	}
	want := func(what string, saved int) {
		t.Helper()
		if err := g.LearnMirror(t.Context()); err != nil {
			t.Fatal(err)
		}
		rules, err := m.MirrorRules(t.Context())
		if err != nil || len(rules) != 1 || rules[0].Saved != int64(saved) {
			t.Errorf("%s: %+v, %v; want %d bytes saved", what, rules, err, saved)
		}
	}
	ask(http.MethodGet, "team/app", first, "")
	kept(t, catalog, "team/app", registry.SHA256.FromString(first))
	want("fetched", 0)
	for range 3 {
		ask(http.MethodGet, "team/app", first, "")
	}
	ask(http.MethodGet, "team/app", first, "bytes=0-999")
	ask(http.MethodHead, "team/app", first, "")
	saved := 3*len(first) + 1000
	want("from here", saved)

	const clients = 8
	var all sync.WaitGroup
	for range clients {
		all.Go(func() { ask(http.MethodGet, "team/app", second, "") })
	}
	all.Wait()
	saved += (clients - 1) * len(second)
	want("fetched once", saved)

	(&edge{t: t, url: srv.URL}).push("own/app", "v1", []byte("of this registry"))
	ask(http.MethodGet, "own/app", "of this registry", "")
	want("pushed", saved)
}
