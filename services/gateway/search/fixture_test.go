package search

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
)

var alice = registry.Actor{ID: "alice"}

// world is a catalog with images, and what answers queries for them.
type world struct {
	*memory.Catalog
	blobs *memory.Blobs
	h     *Handler
	ids   map[string]registry.Digest // of manifests, by repository:tag
}

func newWorld(t *testing.T, rules *registry.AccessRules) *world {
	t.Helper()
	w := &world{blobs: memory.NewBlobs(), ids: map[string]registry.Digest{}}
	var policy *access.Policy
	if rules != nil {
		var err error
		if policy, err = access.Compile(rules, nil); err != nil {
			t.Fatal(err)
		}
	}
	w.Catalog = memory.NewCatalog(memory.CatalogOptions{Reaper: w.blobs, Access: policy})
	h, err := New(Options{Catalog: w, Closed: func() bool { return rules != nil }})
	if err != nil {
		t.Fatal(err)
	}
	w.h = h
	return w
}

// system may do everything, whatever the rules.
var system = registry.Actor{ID: "pusher", System: true}

func (w *world) store(t *testing.T, repo registry.Name, mediaType string, data []byte) registry.Descriptor {
	t.Helper()
	d := registry.SHA256.FromBytes(data)
	u, err := w.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.blobs.Commit(t.Context(), u, bytes.NewReader(data), d)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Link(t.Context(), system, repo, s); err != nil {
		t.Fatal(err)
	}
	return registry.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

func (w *world) put(t *testing.T, repo registry.Name, mediaType string, m map[string]any, tags ...registry.Tag) registry.Descriptor {
	t.Helper()
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	b := encode(t, m)
	d := registry.Descriptor{MediaType: mediaType, Digest: registry.SHA256.FromBytes(b), Size: int64(len(b))}
	if _, err := w.PutManifest(t.Context(), system, repo, registry.ManifestPut{Digest: d.Digest, MediaType: mediaType, Bytes: b, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		w.ids[string(repo)+":"+string(tag)] = d.Digest
	}
	return d
}

// image pushes an image for linux with a layer for each of some texts.
func (w *world) image(t *testing.T, repo registry.Name, arch, created string, layers []string, notes map[string]string, tags ...registry.Tag) registry.Descriptor {
	t.Helper()
	history := []map[string]any{{"created": created, "created_by": "ENV x", "empty_layer": true}}
	var list []registry.Descriptor
	for _, l := range layers {
		list = append(list, w.store(t, repo, "application/vnd.oci.image.layer.v1.tar+gzip", []byte(l)))
		history = append(history, map[string]any{"created": created, "created_by": "COPY " + l})
	}
	config := w.store(t, repo, "application/vnd.oci.image.config.v1+json", encode(t, map[string]any{
		"created": created, "os": "linux", "architecture": arch, "author": "the author", "history": history,
		"config": map[string]any{"Labels": map[string]string{"org.opencontainers.image.licenses": "MIT"}},
	}))
	return w.put(t, repo, registry.TypeManifest, map[string]any{"config": config, "layers": list, "annotations": notes}, tags...)
}

// fill pushes some images.
func (w *world) fill(t *testing.T) *world {
	t.Helper()
	w.image(t, "base", "amd64", "2024-01-01T00:00:00Z", []string{"rootfs"}, nil, "1")
	app := w.image(t, "team/app", "amd64", "2024-01-02T00:00:00Z", []string{"rootfs", "app"}, map[string]string{
		"org.opencontainers.image.vendor": "Acme", "org.opencontainers.image.title": "App", "org.opencontainers.image.description": "An app",
	}, "v1.0")
	w.image(t, "team/app", "arm64", "2024-01-03T00:00:00Z", []string{"other"}, nil, "v2.0")
	one := w.image(t, "multi", "amd64", "2024-01-04T00:00:00Z", []string{"rootfs", "multi"}, nil)
	two := w.image(t, "multi", "riscv64", "2024-01-05T00:00:00Z", []string{"riscv"}, nil)
	w.put(t, "multi", registry.TypeIndex, map[string]any{"manifests": []registry.Descriptor{one, two}}, "all")
	empty := w.store(t, "team/app", "application/vnd.oci.empty.v1+json", []byte("{}"))
	w.put(t, "team/app", registry.TypeManifest, map[string]any{
		"artifactType": "application/vnd.cncf.notary.signature", "config": empty, "layers": []any{}, "subject": app, "annotations": map[string]string{"k": "v"},
	})
	if err := w.CountPulls(t.Context(), []registry.Pull{{Repository: "team/app", Digest: app.Digest, Tag: "v1.0", At: 1_704_500_000_000_000, Count: 3}}); err != nil {
		t.Fatal(err)
	}
	return w
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reply is an answer to a query.
type reply struct {
	status int
	Errors []struct {
		Message string
		Path    []any
	}
	Data json.RawMessage
}

// get asks with GET.
func (w *world) get(t *testing.T, a registry.Actor, query string) reply {
	t.Helper()
	return w.send(t, a, httptest.NewRequestWithContext(t.Context(), "GET", "/?query="+url.QueryEscape(query), nil))
}

// post asks with POST.
func (w *world) post(t *testing.T, a registry.Actor, body string) reply {
	t.Helper()
	return w.send(t, a, httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(body)))
}

func (w *world) send(t *testing.T, a registry.Actor, r *http.Request) reply {
	t.Helper()
	rec := httptest.NewRecorder()
	w.h.ServeHTTP(rec, r.WithContext(registry.WithActor(r.Context(), a)))
	b, err := io.ReadAll(rec.Body)
	if err != nil {
		t.Fatal(err)
	}
	got := reply{status: rec.Code}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return got
}

// want fails the test unless the answer is that JSON, without errors.
func (r reply) want(t *testing.T, query, want string) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal([]byte(want), &b); err != nil {
		t.Fatalf("%v: %s", err, want)
	}
	if err := json.Unmarshal(r.Data, &a); err != nil {
		t.Fatal(err)
	}
	if got, want := string(encode(t, a)), string(encode(t, b)); got != want || r.status != 200 || len(r.Errors) > 0 {
		t.Errorf("%s\ngot  %d %s %v\nwant %s", query, r.status, got, r.Errors, want)
	}
}

// newEmpty returns a catalog without images.
func newEmpty() Catalog { return memory.NewCatalog(memory.CatalogOptions{}) }
