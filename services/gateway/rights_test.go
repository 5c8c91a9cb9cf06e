package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// guardedCatalog refuses repositories with the errors it was given, and counts
// what it is asked.
type guardedCatalog struct {
	registry.Catalog
	mu     sync.Mutex // guards all below
	denied map[registry.Name]error
	calls  int
}

func (c *guardedCatalog) deny(repo registry.Name, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.denied == nil {
		c.denied = make(map[registry.Name]error)
	}
	c.denied[repo] = err
}

func (c *guardedCatalog) check(repo registry.Name) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls++
	return c.denied[repo]
}

func (c *guardedCatalog) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func (c *guardedCatalog) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	if err := c.check(repo); err != nil {
		return "", err
	}
	return c.Catalog.Admit(ctx, a, repo)
}

func (c *guardedCatalog) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	if err := c.check(from); err != nil {
		return registry.Stored{}, err
	}
	return c.Catalog.Mount(ctx, a, repo, d, from)
}

func (c *guardedCatalog) Manifest(ctx context.Context, a registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	if err := c.check(repo); err != nil {
		return registry.Manifest{}, err
	}
	return c.Catalog.Manifest(ctx, a, repo, q)
}

func (c *guardedCatalog) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	if err := c.check(repo); err != nil {
		return registry.Blob{}, err
	}
	return c.Catalog.Blob(ctx, a, repo, d)
}

func TestP80RefusalsOfTheCatalog(t *testing.T) {
	w := newWorld()
	w.cfg.Realm = `the "registry"`
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	guard.deny("anonymous", registry.ErrUnauthorized)
	guard.deny("denied", registry.ErrDenied)
	url := w.serve(t)
	for _, target := range []string{"GET manifests/t", "HEAD manifests/t", "GET blobs/" + digestA, "POST blobs/uploads/"} {
		method, path, _ := strings.Cut(target, " ")
		got := do(t, method, url+"/v2/anonymous/"+path, nil).want(t, 401)
		if got.header.Get("WWW-Authenticate") != `Basic realm="the \"registry\""` || method != "HEAD" && !strings.Contains(got.body, `"UNAUTHORIZED"`) {
			t.Errorf("%s: got %v %s", target, got.header, got.body)
		}
		got = do(t, method, url+"/v2/denied/"+path, nil).want(t, 403)
		if got.header.Get("WWW-Authenticate") != "" || method != "HEAD" && !strings.Contains(got.body, `"DENIED"`) {
			t.Errorf("%s: got %v %s", target, got.header, got.body)
		}
	}
}

func TestP10MountWithoutRightOnTheSource(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	url := w.serve(t)
	d := pushBlob(t, url, "secret", "content")
	for _, refusal := range []error{registry.ErrUnauthorized, registry.ErrDenied, registry.ErrBlobUnknown, registry.ErrNameUnknown} {
		guard.deny("secret", refusal)
		got := do(t, "POST", url+"/v2/mine/blobs/uploads/?mount="+d.String()+"&from=secret", nil).want(t, 202)
		if loc := got.header.Get("Location"); !strings.HasPrefix(loc, "/v2/mine/blobs/uploads/") {
			t.Errorf("%v: Location %q", refusal, loc)
		}
	}
	guard.deny("secret", registry.ErrUnavailable)
	do(t, "POST", url+"/v2/mine/blobs/uploads/?mount="+d.String()+"&from=secret", nil).want(t, 503)
}

func TestP81RetryAfter(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	guard.deny("busy", registry.ErrTooManyRequests)
	guard.deny("down", registry.ErrUnavailable)
	url := w.serve(t)
	for repo, want := range map[string]int{"busy": 429, "down": 503} {
		if got := do(t, "GET", url+"/v2/"+repo+"/manifests/t", nil).want(t, want); got.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", repo)
		}
	}
}

// stubbornCatalog refuses the first link.
type stubbornCatalog struct {
	registry.Catalog
	refused bool
}

func (c *stubbornCatalog) Link(ctx context.Context, a registry.Actor, repo registry.Name, s registry.Stored) (registry.Stored, error) {
	if !c.refused {
		c.refused = true
		return registry.Stored{}, registry.ErrUnavailable
	}
	return c.Catalog.Link(ctx, a, repo, s)
}

// TestP18CommittedButNotLinked fails between the two steps of a PUT: repeating
// it completes it, with or without its last chunk.
func TestP18CommittedButNotLinked(t *testing.T) {
	for _, last := range []string{"", "tail"} {
		w := newWorld()
		w.deps.Catalog = &stubbornCatalog{Catalog: w.deps.Catalog}
		url := w.serve(t)
		loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
		do(t, "PATCH", url+loc, strings.NewReader("content")).want(t, 202)
		d := registry.SHA256.FromString("content" + last)
		do(t, "PUT", url+loc+"&digest="+d.String(), strings.NewReader(last)).want(t, 503)
		do(t, "HEAD", url+"/v2/a/blobs/"+d.String(), nil).want(t, 404)
		do(t, "PUT", url+loc+"&digest="+d.String(), strings.NewReader(last)).want(t, 201)
		do(t, "HEAD", url+"/v2/a/blobs/"+d.String(), nil).want(t, 200)
	}
}

// TestP08CancelNeedsPushRightOnly: no other question is asked of the Catalog.
func TestP08CancelNeedsPushRightOnly(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	url := w.serve(t)
	loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
	guard.deny("a", registry.ErrDenied)
	do(t, "DELETE", url+loc, nil).want(t, 403)
	guard.deny("a", nil)
	do(t, "DELETE", url+loc, nil).want(t, 204)
}

// TestP85OneCatalogCall counts what a request costs the Catalog.
func TestP85OneCatalogCall(t *testing.T) {
	w := newWorld()
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = guard
	url := w.serve(t)
	d := pushImage(t, url, "a", "t")
	for _, target := range []string{"manifests/t", "manifests/" + d.String(), "blobs/" + digestA, "blobs/" + d.String()} {
		for _, method := range []string{"HEAD", "GET"} {
			before := guard.count()
			do(t, method, url+"/v2/a/"+target, nil).want(t, 200)
			if n := guard.count() - before; n != 1 {
				t.Errorf("%s %s: %d calls", method, target, n)
			}
		}
	}
}

// TestWrongCredentials are refused wherever they are sent, but not by probes.
func TestWrongCredentials(t *testing.T) {
	w := newWorld()
	w.deps.Auth = askedBy(func(*http.Request) (registry.Actor, error) {
		return registry.Actor{}, registry.ErrUnauthorized.With("unknown user or wrong password")
	})
	url := w.serve(t)
	do(t, "GET", url+"/v2/", nil).want(t, 401)
	do(t, "GET", url+"/v2/A%20/manifests/t", nil).want(t, 401)
	do(t, "OPTIONS", url+"/v2/", nil).want(t, 204)
	do(t, "GET", url+"/readyz", nil).want(t, 200)
}
