package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// world is the API over ports in memory, with an image that has a tag, a layer, a
// referrer and an index in each of its repositories.
type world struct {
	blobs   registry.Blobs
	catalog registry.Catalog
	as      registry.Actor // who pushes
	log     strings.Builder
}

// Repositories whose names read like paths of the API.
var awkward = []registry.Name{"a", "history", "library/tags", "manifests/tags", "tags", "tags/manifests/sha256"}

func newWorld(t testing.TB) *world {
	w := &world{blobs: memory.NewBlobs(), catalog: memory.NewCatalog(memory.CatalogOptions{})}
	for _, repo := range awkward {
		w.push(t, repo)
	}
	return w
}

var (
	layer     = []byte("layer")
	image     = []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":` + described("{}") + `,"layers":[` + described("layer") + `],"annotations":{"k":"v"}}`)
	signature = []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","artifactType":"t/sig","config":` + described("{}") + `,"layers":[],"annotations":{"by":"me"},` +
		`"subject":{"mediaType":"` + registry.TypeManifest + `","digest":"` + sum(image) + `","size":` + fmt.Sprint(len(image)) + `}}`)
	index   = []byte(`{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[{"mediaType":"` + registry.TypeManifest + `","digest":"` + sum(image) + `","size":` + fmt.Sprint(len(image)) + `}]}`)
	unknown = sum([]byte("nobody has this"))
)

func sum(b []byte) string { return registry.SHA256.FromBytes(b).String() }

func described(content string) string {
	return fmt.Sprintf(`{"mediaType":"a/b","digest":"%s","size":%d}`, sum([]byte(content)), len(content))
}

func (w *world) push(t testing.TB, repo registry.Name) {
	t.Helper()
	ctx := t.Context()
	for _, b := range [][]byte{[]byte("{}"), layer, []byte("loose")} {
		u, err := w.blobs.Start(ctx, "", registry.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.blobs.Commit(ctx, u, strings.NewReader(string(b)), registry.SHA256.FromBytes(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.catalog.Link(ctx, w.as, repo, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []struct {
		b         []byte
		mediaType string
		tags      []registry.Tag
	}{
		{image, registry.TypeManifest, []registry.Tag{"v1", "tags", "history", "referrers"}},
		{signature, registry.TypeManifest, nil},
		{index, registry.TypeIndex, []registry.Tag{"v1"}},
	} {
		_, err := w.catalog.PutManifest(ctx, w.as, repo, registry.ManifestPut{
			Digest: registry.SHA256.FromBytes(m.b), MediaType: m.mediaType, Bytes: m.b, Tags: m.tags,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// serve returns the URL of the API's base.
func (w *world) serve(t testing.TB) string {
	t.Helper()
	h, err := Handler(Options{Blobs: w.blobs, Catalog: w.catalog, Log: slog.New(slog.NewTextHandler(&w.log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + Base
}

type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request; headers are "Key: value".
func ask(t testing.TB, method, url string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		if key == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(key, value)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// object decodes a JSON object.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return o
}

// TestAnswers asks every method in repositories with awkward names, spelled in
// both ways, and compares the whole answer.
func TestAnswers(t *testing.T) {
	for _, repo := range awkward {
		w := newWorld(t)
		base := w.serve(t)
		in := base + "/repositories/" + string(repo) + "/-"
		if repo == "library/tags" {
			in = base + "/repositories/library%2Ftags/-"
		}
		size := func(b []byte) string { return fmt.Sprint(len(b)) }
		referrer := map[string]any{
			"mediaType": registry.TypeManifest, "digest": sum(signature), "size": size(signature), "artifactType": "t/sig",
			"annotations": map[string]any{"by": "me"},
		}
		described := map[string]any{
			"digest": sum(image), "mediaType": registry.TypeManifest, "size": size(image), "artifactType": "a/b",
			"annotations": map[string]any{"k": "v"}, "subject": "", "content": "",
			"references": []any{
				map[string]any{"digest": sum([]byte("{}")), "size": "2", "manifest": false, "optional": false},
				map[string]any{"digest": sum(layer), "size": "5", "manifest": false, "optional": false},
			},
		}
		type o = map[string]any
		for _, test := range []struct {
			method, path string
			want         map[string]any
		}{
			{"GET", in + "/tags", o{"tags": []any{"history", "referrers", "tags", "v1"}, "next": ""}},
			{"GET", in + "/tags?limit=2", o{"tags": []any{"history", "referrers"}, "next": "referrers"}},
			{"GET", in + "/tags?limit=2&after=referrers", o{"tags": []any{"tags", "v1"}, "next": ""}},
			{"GET", in + "/tags/history", o{"tag": "history", "digest": sum(image), "mediaType": registry.TypeManifest, "size": size(image)}},
			{"GET", in + "/tags/never-was/history", o{"changes": []any{}}},
			{"GET", in + "/manifests/history", described},
			{"GET", in + "/manifests/" + strings.Replace(sum(image), ":", "%3A", 1), described},
			{"GET", in + "/manifests/" + sum(image) + "/referrers", o{"referrers": []any{referrer}, "next": ""}},
			{"GET", in + "/manifests/" + sum(image) + "/referrers?artifactType=t/other", o{"referrers": []any{}, "next": ""}},
			{"GET", in + "/manifests/" + unknown + "/referrers", o{"referrers": []any{}, "next": ""}},
			{"GET", in + "/blobs/" + sum(layer), o{"digest": sum(layer), "size": "5", "manifest": false}},
			{"GET", in + "/blobs/" + sum(image), o{"digest": sum(image), "size": size(image), "manifest": true}},
			{"DELETE", in + "/blobs/" + sum([]byte("loose")), o{}},
			{"DELETE", in + "/tags/history?ifDigest=" + sum(image), o{}},
			{"GET", in + "/tags", o{"tags": []any{"referrers", "tags", "v1"}, "next": ""}},
			{"DELETE", in + "/manifests/" + sum(index), o{}},
			{"DELETE", in + "/manifests/" + sum(image), o{}},
			{"GET", in + "/tags", o{"tags": []any{}, "next": ""}},
		} {
			got := ask(t, test.method, test.path)
			if got.status != 200 || got.header.Get("Content-Type") != "application/json" || got.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("%s %s: got %d %v %s", test.method, test.path, got.status, got.header, got.body)
			}
			if diff := cmp.Diff(test.want, object(t, got.body)); diff != "" {
				t.Errorf("%s %s: %s", test.method, test.path, diff)
			}
		}
	}
}

func TestManifestContent(t *testing.T) {
	base := newWorld(t).serve(t)
	got := ask(t, "GET", base+"/repositories/a/-/manifests/v1?content=true")
	var m struct {
		Content    []byte
		References []struct{ Manifest bool }
	}
	if err := json.Unmarshal([]byte(got.body), &m); err != nil || string(m.Content) != string(index) || len(m.References) != 1 || !m.References[0].Manifest {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestTagHistory(t *testing.T) {
	w := newWorld(t)
	base := w.serve(t)
	ask(t, "DELETE", base+"/repositories/a/-/tags/v1")
	var h struct {
		Changes []struct {
			Time          time.Time // RFC 3339
			Actor, Digest string
		}
	}
	got := ask(t, "GET", base+"/repositories/a/-/tags/v1/history?limit=2")
	if err := json.Unmarshal([]byte(got.body), &h); err != nil || len(h.Changes) != 2 || h.Changes[0].Digest != "" || h.Changes[1].Digest != sum(index) || h.Changes[0].Time.Before(h.Changes[1].Time) {
		t.Errorf("got %s, %v", got.body, err)
	}
	if !strings.Contains(got.body, `Z"`) {
		t.Errorf("times are not in UTC: %s", got.body)
	}
}

// TestRepositories walks the list page by page.
func TestRepositories(t *testing.T) {
	base := newWorld(t).serve(t)
	var all []registry.Name
	for after, pages := "", 0; ; pages++ {
		var list struct {
			Repositories []registry.Name
			Next         string
		}
		got := ask(t, "GET", base+"/repositories?limit=4&after="+after)
		if err := json.Unmarshal([]byte(got.body), &list); err != nil || pages > 1 {
			t.Fatal(pages, err, got.body)
		}
		all = append(all, list.Repositories...)
		if after = list.Next; after == "" {
			break
		}
	}
	if diff := cmp.Diff(awkward, all); diff != "" {
		t.Error(diff)
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	sick := &sickly{}
	base := func() string {
		h, err := Handler(Options{Blobs: sick, Catalog: w.catalog})
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.URL + Base
	}()
	for _, test := range []struct {
		readOnly string
		err      error
		want     map[string]any
	}{
		{"", nil, map[string]any{"name": "blobstore", "serving": true, "readOnly": ""}},
		{"a disk is broken", nil, map[string]any{"name": "blobstore", "serving": true, "readOnly": "a disk is broken"}},
		{"", errors.New("secret"), map[string]any{"name": "blobstore", "serving": false, "readOnly": ""}},
	} {
		sick.health, sick.err = registry.Health{ReadOnly: test.readOnly}, test.err
		got := ask(t, "GET", base+"/health")
		want := map[string]any{"services": []any{test.want, map[string]any{"name": "metadata", "serving": true, "readOnly": ""}}}
		if diff := cmp.Diff(want, object(t, got.body)); diff != "" {
			t.Error(diff)
		}
	}
}

type sickly struct {
	health registry.Health
	err    error
}

func (s *sickly) Check(context.Context) (registry.Health, error) { return s.health, s.err }

// TestHead: as GET, without the body.
func TestHead(t *testing.T) {
	base := newWorld(t).serve(t)
	for _, path := range []string{"/repositories", "/openapi.json"} {
		get, head := ask(t, "GET", base+path), ask(t, "HEAD", base+path)
		if head.status != 200 || head.body != "" || head.header.Get("Content-Length") != fmt.Sprint(len(get.body)) {
			t.Errorf("%s: got %d %v %q", path, head.status, head.header, head.body)
		}
	}
}

func TestOptionsAreNeeded(t *testing.T) {
	if _, err := Handler(Options{}); err == nil {
		t.Error("no error without ports")
	}
}
