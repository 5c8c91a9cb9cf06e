package rest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

func (a *asked) Collect(_ context.Context, who registry.Actor) (registry.Collection, error) {
	return registry.Collection{}, a.note(who, "", "collect")
}

func (a *asked) Plan(_ context.Context, who registry.Actor, _ registry.Page[registry.Cursor]) (registry.List[registry.Doomed], error) {
	return registry.List[registry.Doomed]{}, a.note(who, "", "plan")
}

func (a *asked) Deleted(_ context.Context, who registry.Actor, repo registry.Name, _ registry.Page[registry.Cursor]) (registry.List[registry.Deleted], error) {
	return registry.List[registry.Deleted]{}, a.note(who, repo, "deleted")
}

func (a *asked) Purge(_ context.Context, who registry.Actor, repo registry.Name) error {
	return a.note(who, repo, "purge")
}

func (a *asked) DeleteRepository(_ context.Context, who registry.Actor, repo registry.Name) error {
	return a.note(who, repo, "delete")
}

func (a *asked) Undelete(_ context.Context, who registry.Actor, repo registry.Name, r registry.Reference) error {
	return a.note(who, repo, "undelete "+r.String())
}

func (a *asked) CacheUsage(_ context.Context, who registry.Actor) ([]registry.CacheUsage, error) {
	return nil, a.note(who, "", "cache")
}

func (a *asked) CachedManifests(_ context.Context, who registry.Actor, repo registry.Name, _ registry.Page[registry.Digest]) (registry.List[registry.CachedManifest], error) {
	return registry.List[registry.CachedManifest]{}, a.note(who, repo, "cached")
}

func (a *asked) EvictCached(_ context.Context, who registry.Actor, repo registry.Name, r registry.Reference) (registry.Eviction, error) {
	return registry.Eviction{}, a.note(who, repo, "evict "+r.String())
}

func (a *asked) Pins(_ context.Context, who registry.Actor) ([]registry.Pin, error) {
	return nil, a.note(who, "", "pins")
}

func (a *asked) SetPin(_ context.Context, who registry.Actor, p registry.Pin) error {
	return a.note(who, "", "pin "+p.Pattern)
}

func (a *asked) ClearPin(_ context.Context, who registry.Actor, pattern string) error {
	return a.note(who, "", "unpin "+pattern)
}

func (a *asked) TakeOvers(_ context.Context, who registry.Actor, _ registry.Page[registry.Name]) (registry.List[registry.TakeOver], error) {
	return registry.List[registry.TakeOver]{}, a.note(who, "", "take-overs")
}

func (a *asked) FinishTakeOvers(_ context.Context, who registry.Actor) error {
	return a.note(who, "", "finish take-overs")
}

func (a *asked) TakeOverFinish(_ context.Context, who registry.Actor) (registry.TakeOverFinish, error) {
	return registry.TakeOverFinish{}, a.note(who, "", "finish of take-overs")
}

// step is a request and what its answer is like.
type step struct {
	request string
	status  int
	says    string
}

func steps(t *testing.T, base string, all []step) {
	t.Helper()
	for _, s := range all {
		method, path, _ := strings.Cut(s.request, " ")
		got := ask(t, method, base+path)
		if got.status != s.status || !strings.Contains(strings.ReplaceAll(got.body, ": ", ":"), s.says) {
			t.Errorf("%s: got %s, want %d with %s", s.request, fmt.Sprint(got.status, " ", got.body), s.status, s.says)
		}
	}
}

// What was deleted is listed and comes back, until it is purged.
func TestGarbage(t *testing.T) {
	index := sum(index)
	steps(t, newWorld(t).serve(t), []step{
		{"POST /gc", 200, `"more":false`},
		{"GET /take-overs", 200, `"items":[]`},
		{"POST /take-overs/finish", 405, "Unsupported"},
		{"GET /take-overs/finish", 200, `"foreignBlobs":"0"`},
		{"GET /gc?limit=3", 200, `"items":[]`},
		{"GET /gc?after=" + strings.Repeat("x", maxCursor+1), 400, "PageInvalid"},
		{"DELETE /repositories/a/-/tags/v1", 200, `{}`},
		{"POST /repositories/a/-/undelete?reference=v1", 200, `{}`},
		{"GET /repositories/a/-/tags/v1", 200, index},
		{"DELETE /repositories/a/-/manifests/" + index, 200, `{}`},
		{"GET /deleted?repository=a", 200, `"tags":["v1"]`},
		{"GET /deleted?repository=A", 400, "NameInvalid"},
		{"POST /repositories/a/-/undelete?reference=" + index, 200, `{}`},
		{"GET /repositories/a/-/tags/v1", 200, index},
		{"DELETE /repositories/library/tags/-/contents", 200, `{}`},
		{"GET /repositories/library/tags/-/tags", 404, "NameUnknown"},
		{"GET /deleted?limit=1", 200, `"repository":"library/tags"`},
		{"POST /repositories/library%2Ftags/-/undelete", 200, `{}`},
		{"POST /repositories/library%2Ftags/-/undelete", 412, "PreconditionFailed"},
		{"GET /repositories/library/tags/-/tags/v1", 200, index},
		{"DELETE /repositories/library/tags/-/contents", 200, `{}`},
		{"POST /purge?repository=library/tags", 200, `{}`},
		{"GET /deleted", 200, `"items":[]`},
		{"POST /repositories/library/tags/-/undelete", 404, "NameUnknown"},
		{"POST /purge", 200, `{}`},
		{"POST /repositories/a/-/undelete?reference=!", 400, "Invalid"},
	})
}

// What was fetched is listed, pinned, and evicted; what was pushed is not.
func TestCache(t *testing.T) {
	w := newWorld(t)
	d := registry.SHA256.FromBytes(image)
	put := registry.ManifestPut{Digest: d, MediaType: registry.TypeManifest, Bytes: image, Tags: []registry.Tag{"v1"}}
	if _, err := w.catalog.PutCached(t.Context(), registry.Actor{}, "hub/x", put, registry.Origin{Upstream: "https://up.test"}); err != nil {
		t.Fatal(err)
	}
	steps(t, w.serve(t), []step{
		{"GET /cache", 200, `"manifests":"1"`},
		{"GET /repositories/hub/x/-/cached", 200, `"upstream":"https://up.test"`},
		{"GET /repositories/hub/x/-/cached?after=" + d.String(), 200, `"items":[]`},
		{"GET /repositories/hub/x/-/cached?after=x", 400, "DigestInvalid"},
		{"POST /cache/pins?pattern=hub/**:v1&reason=offline", 200, `{}`},
		{"POST /cache/pins?pattern=[", 400, "ParameterInvalid"},
		{"GET /cache/pins", 200, `"reason":"offline"`},
		{"GET /repositories/hub/x/-/cached", 200, `"pinned":"hub/**:v1"`},
		{"DELETE /cache/pins?pattern=hub/**:v1", 200, `{}`},
		{"GET /cache/pins", 200, `"pins":[]`},
		{"DELETE /repositories/a/-/cached?reference=v1", 409, "InUse"},
		{"DELETE /repositories/hub/x/-/cached?reference=v2", 404, "ManifestUnknown"},
		{"DELETE /repositories/hub/x/-/cached?reference=v1", 200, `"manifests":"1"`},
		{"DELETE /repositories/hub/x/-/cached", 200, `"manifests":"0"`},
	})
}
