package rest

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// asked notes which repository and reference a request came to.
type asked struct {
	registry.Catalog
	repo  registry.Name
	what  string
	actor registry.Actor
	err   error // to answer with; nil: unknown
}

func (a *asked) note(who registry.Actor, repo registry.Name, what string) error {
	a.actor, a.repo, a.what = who, repo, what
	if a.err != nil {
		return a.err
	}
	return registry.ErrManifestUnknown
}

func (a *asked) Repositories(_ context.Context, who registry.Actor, _ registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	return registry.List[registry.Name]{}, a.note(who, "", "repositories")
}

func (a *asked) Tags(_ context.Context, who registry.Actor, repo registry.Name, _ registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	return registry.List[registry.Tag]{}, a.note(who, repo, "tags")
}

func (a *asked) TagHistory(_ context.Context, who registry.Actor, repo registry.Name, t registry.Tag, _ int) ([]registry.TagChange, error) {
	return nil, a.note(who, repo, "history of "+string(t))
}

func (a *asked) Manifest(_ context.Context, who registry.Actor, repo registry.Name, q registry.ManifestQuery) (registry.Manifest, error) {
	return registry.Manifest{}, a.note(who, repo, "manifest "+q.Ref.String())
}

func (a *asked) DeleteTag(_ context.Context, who registry.Actor, repo registry.Name, t registry.Tag, _ registry.Condition) error {
	return a.note(who, repo, "delete tag "+string(t))
}

func (a *asked) DeleteManifest(_ context.Context, who registry.Actor, repo registry.Name, d registry.Digest) error {
	return a.note(who, repo, "delete manifest "+d.String())
}

func (a *asked) Referrers(_ context.Context, who registry.Actor, repo registry.Name, d registry.Digest, _ string, _ registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	return registry.List[registry.Descriptor]{}, a.note(who, repo, "referrers of "+d.String())
}

func (a *asked) Blob(_ context.Context, who registry.Actor, repo registry.Name, d registry.Digest) (registry.Blob, error) {
	return registry.Blob{}, a.note(who, repo, "blob "+d.String())
}

func (a *asked) Unlink(_ context.Context, who registry.Actor, repo registry.Name, d registry.Digest) error {
	return a.note(who, repo, "unlink "+d.String())
}

func (a *asked) Allowed(_ context.Context, who registry.Actor, repo registry.Name, want registry.Actions) (registry.Actions, error) {
	return 0, a.note(who, repo, "rights to "+want.String())
}

func (a *asked) ScrubStatus(_ context.Context, who registry.Actor) (registry.ScrubStatus, error) {
	return registry.ScrubStatus{}, a.note(who, "", "scrub")
}

func (a *asked) StartScrub(_ context.Context, who registry.Actor) error {
	return a.note(who, "", "start scrub")
}

func (a *asked) Damages(_ context.Context, who registry.Actor, _ *registry.Damage, _ int) ([]registry.Damage, error) {
	return nil, a.note(who, "", "damages")
}

// send sends a request with an escaped path, as a server would get it.
func send(h http.Handler, method, escaped string, query ...string) (*httptest.ResponseRecorder, bool) {
	path, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, false // net/http refuses it
	}
	r := httptest.NewRequest(method, "/", nil)
	if path == reviewPath {
		r = httptest.NewRequest(method, "/", strings.NewReader("null"))
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = path, escaped, strings.Join(query, "&")
	r.RemoteAddr, r.Host = "127.0.0.1:4000", "localhost"
	r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec, true
}

func newAsked(t testing.TB) (http.Handler, *asked) {
	a := &asked{Catalog: memory.NewCatalog(memory.CatalogOptions{})}
	h, err := Handler(Options{Blobs: memory.NewBlobs(), Catalog: a})
	if err != nil {
		t.Fatal(err)
	}
	return h, a
}

// FuzzPaths: whatever a legal repository, tag and digest are called, each path
// leads to that repository and nothing else; and whatever is put in their place
// never gets to the catalog as an illegal name.
func FuzzPaths(f *testing.F) {
	for _, repo := range append(awkward, "manifests", "blobs/x/referrers", "..", "a//b", "-", "a/-/tags", "A", "a/-/manifests/x/-/tags", "health", "%2f", "a%2Fb") {
		for _, tag := range []string{"v1", "tags", "history", "referrers", "-", "", "a/b", "sha256:x"} {
			f.Add(string(repo), tag)
		}
	}
	h, a := newAsked(f)
	f.Fuzz(func(t *testing.T, repo, tag string) {
		_, repoErr := registry.ParseName(repo)
		_, tagErr := registry.ParseTag(tag)
		digest := unknown
		for _, test := range []struct {
			method, path, want string
			legal              bool
		}{
			{"GET", "tags", "tags", true},
			{"GET", "tags/" + tag, "manifest " + tag, tagErr == nil},
			{"GET", "tags/" + tag + "/history", "history of " + tag, tagErr == nil},
			{"DELETE", "tags/" + tag, "delete tag " + tag, tagErr == nil},
			{"GET", "manifests/" + tag, "manifest " + tag, tagErr == nil},
			{"GET", "manifests/" + digest, "manifest " + digest, true},
			{"DELETE", "manifests/" + digest, "delete manifest " + digest, true},
			{"GET", "manifests/" + digest + "/referrers", "referrers of " + digest, true},
			{"GET", "blobs/" + digest, "blob " + digest, true},
			{"DELETE", "blobs/" + digest, "unlink " + digest, true},
		} {
			for _, name := range []string{repo, url.PathEscape(repo)} {
				*a = asked{Catalog: a.Catalog}
				rec, ok := send(h, test.method, Base+"/repositories/"+name+"/-/"+test.path)
				if !ok {
					continue
				}
				if !json.Valid(rec.Body.Bytes()) || rec.Code != 200 && rec.Code != 400 && rec.Code != 404 && rec.Code != 405 {
					t.Errorf("%s %q: got %d %s", test.method, name+"/-/"+test.path, rec.Code, rec.Body)
				}
				if repoErr == nil && test.legal {
					if string(a.repo) != repo || a.what != test.want {
						t.Errorf("%s %q: came to %q in %q: %d %s", test.method, name+"/-/"+test.path, a.what, a.repo, rec.Code, rec.Body)
					}
				}
				if _, err := registry.ParseName(string(a.repo)); err != nil && a.what != "" {
					t.Errorf("%s %q: the catalog was asked for %q", test.method, name+"/-/"+test.path, a.repo)
				}
			}
		}
	})
}

// TestS001EveryRouteAsksForRights: each path of the document comes to the catalog
// as an anonymous actor's, and says no more than no if the catalog does.
func TestS001EveryRouteAsksForRights(t *testing.T) {
	h, a := newAsked(t)
	// What is malformed is refused before anybody is asked.
	needed := map[string]string{
		"put /users": "id=x", "delete /users": "id=x", "get /keys": "user=x", "post /keys": "user=x", "delete /keys": "user=x&id=y",
		"get /access/explain": "name=team/secret&action=read&user=x",
	}
	fill := strings.NewReplacer("{repository}", "team/secret", "{tag}", "v1", "{digest}", unknown, "{reference}", unknown)
	for path, methods := range parseDocument(t).Paths {
		for method := range methods {
			if path == Base+"/health" {
				continue
			}
			for _, err := range []error{registry.ErrUnauthorized, registry.ErrDenied} {
				*a = asked{Catalog: a.Catalog, err: err, actor: registry.Actor{ID: "nobody yet"}}
				rec, _ := send(h, strings.ToUpper(method), fill.Replace(path), needed[method+" "+strings.TrimPrefix(path, Base)])
				if rec.Code != 403 || a.what == "" || !a.actor.Anonymous() || strings.Contains(rec.Body.String(), "secret") {
					t.Errorf("%s %s: got %d %s, asked for %q as %q", method, path, rec.Code, rec.Body, a.what, a.actor.ID)
				}
			}
		}
	}
}

// TestS130RepositoryNames: each is refused before anything is asked.
func TestS130RepositoryNames(t *testing.T) {
	h, a := newAsked(t)
	for _, name := range []string{
		"..", "../x", "a/..", "a/../b", "a/./b", ".", "a//b", "/a", "a/", ".x", "a/.x", "x.", "a..b", "a___b", "-a", "a-", "_a", "-", "a/-/b",
		"%2e%2e/x", "%2e%2e%2fx", "a%252fb", "a%5cb", `a\b`, "a%00", "A", "a/B", "a%20b", "a:b", "a@b", "%E2%80%A4%E2%80%A4", "\u2024", "%ff",
		strings.Repeat("a", 256), strings.Repeat("a/", 128) + "a",
	} {
		for _, request := range []string{
			"GET tags", "GET tags/t", "GET tags/t/history", "DELETE tags/t", "GET manifests/t", "DELETE manifests/" + unknown,
			"GET manifests/" + unknown + "/referrers", "GET blobs/" + unknown, "DELETE blobs/" + unknown,
		} {
			method, rest, _ := strings.Cut(request, " ")
			rec, ok := send(h, method, Base+"/repositories/"+name+"/-/"+rest)
			if !ok {
				t.Fatal(name)
			}
			if rec.Code != 400 || object(t, rec.Body.String())["code"] != "NameInvalid" {
				t.Errorf("%s %q: got %d %s", method, name+"/-/"+rest, rec.Code, rec.Body)
			}
		}
	}
	if a.what != "" {
		t.Errorf("the catalog was asked for %s in %q", a.what, a.repo)
	}
}

// TestS083Digests: what is no digest is refused before anything is asked.
func TestS083Digests(t *testing.T) {
	h, a := newAsked(t)
	hex := strings.TrimPrefix(unknown, "sha256:")
	for _, digest := range []string{
		"sha256:..%2f..%2fx", "sha256:%2e%2e", "sha256:" + strings.ToUpper(hex), "sha256:" + hex[1:], "sha256:" + hex + "0", "md5:" + hex[:32],
		"sha256:", "sha256:ab%2f..", "sha256:" + hex[1:] + "%00", ":" + hex, "sha256:sha256:" + hex,
	} {
		for _, request := range []string{"GET blobs/%s", "DELETE blobs/%s", "DELETE manifests/%s", "GET manifests/%s", "GET manifests/%s/referrers"} {
			method, path, _ := strings.Cut(strings.Replace(request, "%s", digest, 1), " ")
			rec, _ := send(h, method, Base+"/repositories/a/-/"+path)
			if code := object(t, rec.Body.String())["code"]; code != "DigestInvalid" && code != "EndpointUnknown" && code != "NameInvalid" {
				t.Errorf("%s %s: got %d %s", method, path, rec.Code, rec.Body)
			}
		}
	}
	if a.what != "" {
		t.Errorf("the catalog was asked for %s", a.what)
	}
}
