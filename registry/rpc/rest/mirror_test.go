package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// mirrored notes what a mirror is told.
type mirrored struct {
	registry.Mirror
	told []string
}

func (m *mirrored) MirrorRules(context.Context) ([]registry.MirrorRule, error) {
	return []registry.MirrorRule{{Name: "docker.io", URLs: []string{"https://registry-1.docker.io"}, MonthBytes: 5 << 40, Budget: -1, Waits: "why"}}, nil
}

func (m *mirrored) Fills(context.Context) ([]registry.Fill, error) {
	return []registry.Fill{{Digest: "sha256:00", Repository: "a/b", Have: 1, Size: 2, Priority: registry.PriorityClient, Speed: 3, ETA: 4}}, nil
}

func (m *mirrored) Presence(_ context.Context, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.TagPresence], error) {
	m.told = append(m.told, "presence "+string(repo)+" after "+string(p.After))
	return registry.List[registry.TagPresence]{More: true, Items: []registry.TagPresence{{
		Tag: "v1", Digest: "sha256:00", State: registry.Partial, Have: 1, Size: 2,
		Platforms: []registry.PlatformPresence{{Platform: "linux/amd64", Digest: "sha256:01", State: registry.Complete, Have: 1, Size: 1}},
	}}}, nil
}

func (m *mirrored) Explain(_ context.Context, repo registry.Name) ([]string, error) {
	return []string{"about " + string(repo)}, nil
}

func (m *mirrored) Examine(_ context.Context, rule string) ([]registry.MirrorCheck, error) {
	return []registry.MirrorCheck{{Step: "asking " + rule, OK: true, Text: "well"}}, nil
}

func (m *mirrored) Trigger(_ context.Context, rule string) error {
	m.told = append(m.told, "trigger "+rule)
	return nil
}

func (m *mirrored) Pause(_ context.Context, rule string, paused bool) error {
	m.told = append(m.told, "pause "+rule)
	if !paused {
		m.told = append(m.told, "no, resume it")
	}
	return nil
}

func (m *mirrored) Forget(_ context.Context, repo registry.Name) error {
	m.told = append(m.told, "forget "+string(repo))
	return nil
}

// TestMirrors: what the commands about mirrors do can be done over REST, too.
func TestMirrors(t *testing.T) {
	m := new(mirrored)
	h, err := Handler(Options{Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{}), Mirror: m})
	if err != nil {
		t.Fatal(err)
	}
	call := func(method, path string) string {
		path, query, _ := strings.Cut(path, "?")
		rec, _ := send(h, method, Base+path, query)
		if rec.Code != http.StatusOK || !json.Valid(rec.Body.Bytes()) {
			t.Errorf("%s %s: %d %s", method, path, rec.Code, rec.Body)
		}
		return rec.Body.String()
	}
	for request, want := range map[string][]string{
		"GET /mirrors":                              {`"docker.io"`, "5497558138880", `"why"`, `"client"`},
		"POST /mirrors/test?rule=docker.io":         {"asking docker.io", "true"},
		"GET /repositories/a/b/-/mirror":            {"about a/b"},
		"GET /repositories/a/b/-/presence?after=v0": {`"partial"`, `"linux/amd64"`, `"next":"v1"`},
	} {
		method, path, _ := strings.Cut(request, " ")
		got := call(method, path)
		for _, text := range want {
			if !strings.Contains(strings.ReplaceAll(got, `": "`, `":"`), text) {
				t.Errorf("%s: %q is not in %s", request, text, got)
			}
		}
	}
	call("POST", "/mirrors/trigger?rule=docker.io%232")
	call("POST", "/mirrors/pause?rule=a.example.com:5000&paused=true")
	call("POST", "/mirrors/pause?rule=a.example.com:5000")
	call("DELETE", "/repositories/a/b/-/mirror")
	want := []string{"presence a/b after v0", "trigger docker.io#2", "pause a.example.com:5000", "pause a.example.com:5000", "no, resume it", "forget a/b"}
	if diff := cmp.Diff(want, m.told); diff != "" {
		t.Error(diff)
	}
}
