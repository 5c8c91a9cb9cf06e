package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// thriftyCatalog counts the manifests it had to send in full.
type thriftyCatalog struct {
	registry.Catalog
	sent int
}

func (c *thriftyCatalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	m, err := c.Catalog.Manifest(ctx, a, repo, q)
	if m.Bytes != nil {
		c.sent++
	}
	return m, err
}

func TestManifestBytesAreFetchedOnce(t *testing.T) {
	w := newWorld()
	c := &thriftyCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = c
	url := w.serve(t)
	d := pushImage(t, url, "a", "t")
	get := func(ref, want string) {
		t.Helper()
		if got := do(t, "GET", url+"/v2/a/manifests/"+ref, nil).want(t, 200); got.body != want {
			t.Errorf("%s: got %q", ref, got.body)
		}
	}
	for range 3 {
		get("t", emptyImage)
		get(d.String(), emptyImage)
		do(t, "HEAD", url+"/v2/a/manifests/t", nil).want(t, 200)
	}
	if c.sent != 1 {
		t.Errorf("the catalog sent the bytes %d times, want once", c.sent)
	}
	// A tag that moves is seen at once: the Catalog resolves it every time.
	moved := emptyImage + "\n"
	do(t, "PUT", url+"/v2/a/manifests/t", strings.NewReader(moved), "Content-Type: "+registry.TypeManifest).want(t, 201)
	get("t", moved)
	get("t", moved)
	if c.sent != 2 {
		t.Errorf("the catalog sent the bytes %d times, want twice", c.sent)
	}
	do(t, "DELETE", url+"/v2/a/manifests/t", nil).want(t, 202)
	do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 404)
}

// forgetfulCatalog says that the caller has the bytes when it has not.
type forgetfulCatalog struct{ registry.Catalog }

func (c forgetfulCatalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	m, err := c.Catalog.Manifest(ctx, a, repo, q)
	m.Bytes = nil
	return m, err
}

// TestMissingManifestBytesAreAFault: no stale or empty body instead.
func TestMissingManifestBytesAreAFault(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	pushImage(t, url, "a", "t")
	w.deps.Catalog = forgetfulCatalog{w.deps.Catalog}
	g := w.gateway(t)
	other := []byte(emptyImage[:len(emptyImage)-1] + " }")[:len(emptyImage)]
	g.manifests.add("a", registry.Reference{Tag: "t"}, registry.Manifest{Digest: digestA, Bytes: other})
	for range 2 {
		d := &discard{h: make(http.Header)}
		if g.ServeHTTP(d, newRequest("GET", "/v2/a/manifests/t", "")); d.status != 500 {
			t.Errorf("got status %d", d.status)
		}
	}
}

func TestManifestCacheIsBounded(t *testing.T) {
	var c manifestCache
	const limit = 100_000
	c.init(limit)
	for i := range 3 * maxHints {
		b := []byte(fmt.Sprint(i))
		ref := registry.Reference{Tag: registry.Tag(b)}
		c.add("a", ref, registry.Manifest{Digest: registry.SHA256.FromBytes(b), Bytes: b})
	}
	sum := int64(0)
	for _, e := range c.items {
		sum += int64(len(e.Value.(*cached).bytes)) + entryOverhead
	}
	if sum != c.size || sum > limit || sum < limit/2 || len(c.hints) != maxHints || c.byAge.Len() != len(c.items) {
		t.Errorf("%d bytes (counted as %d) in %d entries, %d hints", sum, c.size, len(c.items), len(c.hints))
	}
	if d, _ := c.guess("a", registry.Reference{Digest: registry.SHA256.FromString(fmt.Sprint(3*maxHints - 1))}); d == "" {
		t.Error("the latest entry is gone")
	}
	before := len(c.items)
	c.add("a", registry.Reference{}, registry.Manifest{Digest: digestA, Bytes: make([]byte, limit)})
	if len(c.items) != before {
		t.Error("a giant was let in")
	}
}
