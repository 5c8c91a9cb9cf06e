package gateway

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
)

// callsOf notes the calls that ask for blobs of others.
type callsOf struct {
	registry.Catalog
	mu    sync.Mutex
	calls []string
}

func (c *callsOf) note(call string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
}

func (c *callsOf) Mount(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, from registry.Name) (registry.Stored, error) {
	c.note("Mount")
	return c.Catalog.Mount(ctx, a, repo, d, from)
}

func (c *callsOf) Blob(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	c.note("Blob")
	return c.Catalog.Blob(ctx, a, repo, d)
}

func (c *callsOf) Admit(ctx context.Context, a registry.Actor, repo registry.Name) (registry.Pool, error) {
	c.note("Admit")
	return c.Catalog.Admit(ctx, a, repo)
}

// tenants is a world of users by X-Test: owner has a/, tenant has b/ and may create in
// c/, where nothing can be changed that is protected.
func tenants(t *testing.T) (*world, *callsOf) {
	t.Helper()
	all := []string{"read", "create", "update", "delete"}
	p, err := access.Compile(&registry.AccessRules{Repositories: map[string]registry.RepositoryRules{
		"a/**": {Policies: []registry.AccessPolicy{{Users: []string{"owner"}, Actions: all}}},
		"b/**": {Policies: []registry.AccessPolicy{{Users: []string{"tenant"}, Actions: all}}},
		"c/**": {Policies: []registry.AccessPolicy{{Users: []string{"owner"}, Actions: all}, {Users: []string{"tenant"}, Actions: all[:2]}}},
		"d/**": {Policies: []registry.AccessPolicy{
			{Users: []string{"owner"}, Actions: all},
			{Users: []string{"tenant"}, Actions: all, Conditions: []registry.AccessCondition{{Expression: "unprotected", Message: "a release stays"}}},
		}},
	}}, func(string) (access.Condition, error) { return unprotected{}, nil })
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	c := &callsOf{Catalog: memory.NewCatalog(memory.CatalogOptions{Access: p})}
	w.deps.Catalog = c
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		return registry.Actor{ID: r.Header.Get("X-Test")}, nil
	})
	return w, c
}

// unprotected holds for all tags but releases.
type unprotected struct{}

func (unprotected) Holds(q access.Question) (bool, error) {
	return !strings.HasPrefix(string(q.Ref.Tag), "release"), nil
}

// TestS002S003S004BlobsOfOthers: who asks to mount what only others have is told the same as
// for what nobody has, after the same calls, whether or not he names the place; and the
// blob is in none of his repositories then.
func TestS002S003S004BlobsOfOthers(t *testing.T) {
	w, c := tenants(t)
	url := w.serve(t)
	secret := pushBlob(t, url, "a/secret", "secret layer", "X-Test: owner")
	pushBlob(t, url, "b/x", "layer", "X-Test: tenant")
	unknown := registry.SHA256.FromString("nobody has this")
	type told struct {
		Status int
		Body   string
		Keys   []string // of the header
		Calls  []string
	}
	ask := func(method, path string) told {
		t.Helper()
		c.calls = nil
		a := do(t, method, url+path, nil, "X-Test: tenant")
		return told{a.status, strings.NewReplacer(string(secret), "D", string(unknown), "D").Replace(a.body), slices.Sorted(maps.Keys(a.header)), c.calls}
	}
	for _, from := range []string{"&from=a/secret", "&from=a/missing", ""} {
		mount := "/v2/b/x/blobs/uploads/?mount=%s" + from
		have, none := ask("POST", fmt.Sprintf(mount, secret)), ask("POST", fmt.Sprintf(mount, unknown))
		if have.Status != http.StatusAccepted || !slices.Contains(have.Calls, "Mount") {
			t.Errorf("mount%s: %+v", from, have)
		}
		if diff := cmp.Diff(none, have); diff != "" {
			t.Errorf("mount%s tells what nobody has from what others have:\n%s", from, diff)
		}
	}
	for _, method := range []string{"GET", "HEAD", "DELETE"} {
		have, none := ask(method, "/v2/b/x/blobs/"+string(secret)), ask(method, "/v2/b/x/blobs/"+string(unknown))
		if have.Status != http.StatusNotFound || method != "HEAD" && !strings.Contains(have.Body, "BLOB_UNKNOWN") {
			t.Errorf("%s of another's blob: %+v", method, have)
		}
		if diff := cmp.Diff(none, have); diff != "" {
			t.Errorf("%s tells what nobody has from what others have:\n%s", method, diff)
		}
	}
	// Nor does a manifest bring it along.
	image := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"%s","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"%s","size":12},"layers":[]}`, registry.TypeManifest, secret)
	do(t, "PUT", url+"/v2/b/x/manifests/t", strings.NewReader(image), "X-Test: tenant", "Content-Type: "+registry.TypeManifest).want(t, 400)
	do(t, "GET", url+"/v2/b/x/blobs/"+string(secret), nil, "X-Test: tenant").want(t, 404)
}

// otherImage is another one than emptyImage that needs the same blob.
var otherImage = strings.Replace(emptyImage, `"layers":[]`, `"layers":[],"annotations":{"x":"y"}`, 1)

// TestS005S006CreateIsNotUpdate: who may create and not update moves no tag, whichever
// way he names it; of several tags none is set if one is not his to set.
func TestS005S006CreateIsNotUpdate(t *testing.T) {
	w, _ := tenants(t)
	url := w.serve(t)
	old := pushImage(t, url, "c/app", "latest", "X-Test: owner")
	d := registry.SHA256.FromString(otherImage)
	put := func(ref string) answer {
		return do(t, "PUT", url+"/v2/c/app/manifests/"+ref, strings.NewReader(otherImage), "X-Test: tenant", "Content-Type: "+registry.TypeManifest)
	}
	for _, ref := range []string{"latest", d.String() + "?tag=latest", d.String() + "?tag=new&tag=latest", d.String() + "?tag=latest&tag=new"} {
		if a := put(ref); a.status != http.StatusForbidden || !strings.Contains(a.body, "DENIED") {
			t.Errorf("PUT %s: %d %s", ref, a.status, a.body)
		}
		if a := do(t, "GET", url+"/v2/c/app/tags/list", nil, "X-Test: tenant").want(t, 200); !strings.Contains(a.body, `"tags":["latest"]`) {
			t.Errorf("after PUT %s: %s", ref, a.body)
		}
		if a := do(t, "HEAD", url+"/v2/c/app/manifests/latest", nil, "X-Test: tenant").want(t, 200); a.header.Get("Docker-Content-Digest") != old.String() {
			t.Errorf("after PUT %s latest is %v", ref, a.header)
		}
		do(t, "GET", url+"/v2/c/app/manifests/"+d.String(), nil, "X-Test: tenant").want(t, 404)
	}
	put("new").want(t, http.StatusCreated)
}

// TestS024ProtectedTags: a tag that a rule protects is set, moved and removed by none of
// the ways that there are for it; its neighbours are.
func TestS024ProtectedTags(t *testing.T) {
	w, _ := tenants(t)
	url := w.serve(t)
	old := pushImage(t, url, "d/app", "release-1", "X-Test: owner")
	d := registry.SHA256.FromString(otherImage).String()
	ask := func(method, path string) answer {
		return do(t, method, url+"/v2/d/app/manifests/"+path, strings.NewReader(otherImage), "X-Test: tenant", "Content-Type: "+registry.TypeManifest)
	}
	for _, request := range []string{
		"PUT release-1", "PUT release-2", "PUT " + d + "?tag=release-1", "PUT " + d + "?tag=release-2", "PUT " + d + "?tag=free&tag=release-1", "PUT " + d + "?tag=release-2&tag=free", "DELETE release-1", "DELETE " + old.String(),
	} {
		method, path, _ := strings.Cut(request, " ")
		if a := ask(method, path); a.status != http.StatusForbidden || !strings.Contains(a.body, "a release stays") {
			t.Errorf("%s: %d %s", request, a.status, a.body)
		}
		if a := do(t, "GET", url+"/v2/d/app/tags/list", nil, "X-Test: owner").want(t, 200); !strings.Contains(a.body, `"tags":["release-1"]`) {
			t.Errorf("after %s: %s", request, a.body)
		}
	}
	if a := do(t, "HEAD", url+"/v2/d/app/manifests/release-1", nil, "X-Test: owner").want(t, 200); a.header.Get("Docker-Content-Digest") != old.String() {
		t.Errorf("the release has moved: %v", a.header)
	}
	ask("PUT", d+"?tag=free&tag=other").want(t, http.StatusCreated)
	ask("DELETE", "free").want(t, http.StatusAccepted)
}
