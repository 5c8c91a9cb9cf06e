package gateway

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
)

// recently serves a world through a gateway whose answers are good for a second of
// the clock.
func (w *world) recently(t *testing.T, clock *time.Time) (url string, g *Gateway) {
	t.Helper()
	w.cfg.Fresh = time.Second
	g = w.gateway(t)
	g.recent.now = func() time.Time { return *clock }
	s := httptest.NewUnstartedServer(nil)
	s.Config = g.Server()
	s.Start()
	t.Cleanup(s.Close)
	return s.URL, g
}

// taggedImage returns emptyImage with a note.
func taggedImage(note string) string {
	return strings.Replace(emptyImage, `"layers":[]`, fmt.Sprintf(`"layers":[],"annotations":{"note":%q}`, note), 1)
}

func putImage(t *testing.T, url, tag, image string) {
	t.Helper()
	do(t, "PUT", url+"/v2/a/manifests/"+tag, strings.NewReader(image), "Content-Type: "+registry.TypeManifest).want(t, 201)
}

// An answer is given again for as long as it may be stale and no longer; what this
// gateway has changed is never stale.
func TestRecentAnswers(t *testing.T) {
	w := newWorld()
	c := &tally{Catalog: w.deps.Catalog}
	w.deps.Catalog = c
	other := w.serve(t)
	now := time.Unix(1000, 0)
	url, _ := w.recently(t, &now)
	pushImage(t, other, "a", "t")
	blob := pushBlob(t, other, "a", "content")
	first, second, third := emptyImage, taggedImage("second"), taggedImage("third")
	read := func(image string, calls int64) {
		t.Helper()
		before := c.calls.Load()
		if got := do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 200); got.body != image {
			t.Errorf("got %s, want %s", got.body, image)
		}
		if got := c.calls.Load() - before; got != calls {
			t.Errorf("%d calls of the catalog, want %d", got, calls)
		}
	}
	read(first, 1)
	read(first, 0)
	putImage(t, other, "t", second)
	now = now.Add(time.Second - 1)
	read(first, 0)
	now = now.Add(1)
	read(second, 1)
	read(second, 0)
	putImage(t, url, "t", third)
	read(third, 1)
	do(t, "DELETE", url+"/v2/a/manifests/t", nil).want(t, 202)
	do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 404)

	for i, calls := range []int64{1, 0, 0} {
		before := c.calls.Load()
		if got := do(t, "GET", url+"/v2/a/blobs/"+blob.String(), nil).want(t, 200); got.body != "content" {
			t.Errorf("got %q", got.body)
		}
		if got := c.calls.Load() - before; got != calls {
			t.Errorf("GET %d of a blob: %d calls, want %d", i, got, calls)
		}
	}
	before := c.calls.Load()
	do(t, "HEAD", url+"/v2/a/blobs/"+blob.String(), nil).want(t, 200)
	if c.calls.Load() == before {
		t.Error("HEAD of a blob made no promise")
	}
	do(t, "DELETE", url+"/v2/a/blobs/"+blob.String(), nil).want(t, 202)
	do(t, "GET", url+"/v2/a/blobs/"+blob.String(), nil).want(t, 404)
}

// What is missing is not remembered as missing.
func TestRecentKeepsNoErrors(t *testing.T) {
	w := newWorld()
	other := w.serve(t)
	now := time.Unix(1000, 0)
	url, _ := w.recently(t, &now)
	do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 404)
	d := pushImage(t, other, "a", "t")
	do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 200)
	do(t, "GET", url+"/v2/a/manifests/"+d.String(), nil).want(t, 200)
}

// picky lets one user read.
type picky struct{ registry.Catalog }

func (p picky) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	if a.ID != "alice" {
		return registry.Manifest{}, registry.ErrDenied
	}
	return p.Catalog.Manifest(ctx, a, repo, q)
}

func (p picky) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if a.ID != "alice" {
		return registry.Blob{}, registry.ErrDenied
	}
	return p.Catalog.Blob(ctx, a, repo, d)
}

// An answer is for who was told.
func TestRecentIsForOneActor(t *testing.T) {
	w := newWorld()
	plain := w.serve(t)
	d := pushImage(t, plain, "a", "t")
	blob := pushBlob(t, plain, "a", "content")
	w.deps.Catalog = picky{w.deps.Catalog}
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		return registry.Actor{ID: r.Header.Get("User")}, nil
	})
	now := time.Unix(1000, 0)
	url, _ := w.recently(t, &now)
	for _, path := range []string{"manifests/t", "manifests/" + d.String(), "blobs/" + blob.String()} {
		for range 2 {
			do(t, "GET", url+"/v2/a/"+path, nil, "User: alice").want(t, 200)
			do(t, "GET", url+"/v2/a/"+path, nil, "User: bob").want(t, 403)
			do(t, "GET", url+"/v2/a/"+path, nil).want(t, 403)
		}
	}
	actors := []registry.Actor{
		{}, {ID: "a"}, {ID: "a", Groups: []string{"g"}}, {ID: "a", Groups: []string{"g", "h"}}, {ID: `a" g"g`}, {ID: "a", Groups: []string{`g" g"h`}},
		{ID: "a", Claims: map[string]string{"k": "v"}}, {ID: "a", Claims: map[string]string{"k": "w"}}, {ID: "a", Claims: map[string]string{"k=": "v"}}, {Groups: []string{"g"}},
		{ID: "a", System: true}, {ID: "a", Ruled: true}, {ID: "a", Scope: []registry.Grant{}},
	}
	keys := map[[sha256.Size]byte]registry.Actor{}
	for _, a := range actors {
		if b, taken := keys[actorKey(a)]; taken {
			t.Errorf("%v and %v are one", a, b)
		}
		keys[actorKey(a)] = a
	}
}

// held is a catalog that keeps the answer to one read back.
type held struct {
	registry.Catalog
	said, tell chan struct{}
}

func (h *held) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	m, err := h.Catalog.Manifest(ctx, a, repo, q)
	if q.Ref.Tag == "t" && h.said != nil {
		close(h.said)
		h.said = nil
		<-h.tell
	}
	return m, err
}

// An answer that was on its way while this gateway changed the tag is not kept.
func TestRecentAnswerOvertaken(t *testing.T) {
	w := newWorld()
	c := &held{Catalog: w.deps.Catalog, said: make(chan struct{}), tell: make(chan struct{})}
	w.deps.Catalog = c
	now := time.Unix(1000, 0)
	url, _ := w.recently(t, &now)
	pushImage(t, url, "a", "t")
	said, done := c.said, make(chan answer)
	go func() { done <- do(t, "GET", url+"/v2/a/manifests/t", nil) }()
	<-said
	moved := taggedImage("moved")
	putImage(t, url, "t", moved)
	close(c.tell)
	<-done
	for range 2 {
		if got := do(t, "GET", url+"/v2/a/manifests/t", nil).want(t, 200); got.body != moved {
			t.Errorf("got %s", got.body)
		}
	}
}

// However many names are asked for, memory is bounded.
func TestRecentIsBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	r := recent{fresh: time.Hour, now: func() time.Time { return now }}
	r.clear()
	for i := range 3 * maxRecent {
		ref := registry.Reference{Tag: registry.Tag(fmt.Sprint("t", i))}
		repo := registry.Name(fmt.Sprint("r", i%100))
		r.keepManifest(registry.Actor{}, repo, ref, registry.Manifest{Digest: "d"}, r.askNow())
		if _, ok := r.manifest(registry.Actor{}, repo, registry.ManifestQuery{Ref: ref, NoBytes: true}); !ok {
			t.Fatal("what was just kept is gone")
		}
	}
	n := 0
	for _, m := range r.answers {
		n += len(m)
	}
	if n != r.n || n > maxRecent {
		t.Errorf("%d answers are kept, %d counted", n, r.n)
	}
	r.changed("r1")
	r.changed("unknown")
	n -= maxRecent / 100
	if r.n > n+1 || len(r.answers["r1"]) != 0 {
		t.Errorf("%d answers are left", r.n)
	}
}

func TestFresh(t *testing.T) {
	c := httpOf(config.HTTP{})
	c.Storage.Metadata.MaxStaleness = time.Second
	if got := fresh(c); got != 0 {
		t.Errorf("with a catalog in the same process: %v", got)
	}
	c.Services.Metadata.Address = []string{"127.0.0.1:7002"}
	if got := fresh(c); got != time.Second/2 {
		t.Errorf("with a catalog elsewhere: %v", got)
	}
}
