package rest

import (
	"context"
	"encoding/json"
	"fmt"
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

func (m *mirrored) Forwards(_ context.Context, q registry.ForwardQuery) ([]registry.Forward, error) {
	m.told = append(m.told, fmt.Sprintf("forwards %+v", q))
	return []registry.Forward{{Number: 7, Rule: q.Rule, Repository: "a/b", Tag: "v1", Digest: "sha256:00", State: registry.ForwardWaiting, Since: 1, Changed: 2, Deletion: true}}, nil
}

func (m *mirrored) Reforward(_ context.Context, rule string) error {
	m.told = append(m.told, "retry "+rule)
	return nil
}

func (m *mirrored) DropForward(_ context.Context, number int64) error {
	m.told = append(m.told, fmt.Sprintf("drop %d", number))
	return nil
}

// TestForwards: what waits to be passed on to other registries is listed in pages, and
// can be tried again and given up; by administrators only, as all about mirrors.
func TestForwards(t *testing.T) {
	m := new(mirrored)
	h, err := Handler(Options{Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{}), Mirror: m})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, query string
		status              int
		want                string
	}{
		{"GET", "/mirrors/forwards", "rule=hq%232&repository=a/b&open=true&limit=1&after=6", 200, `"next":"7"`},
		{"GET", "/mirrors/forwards", "", 200, `"state":"waiting"`},
		{"GET", "/mirrors/forwards", "after=x", 400, ""},
		{"GET", "/mirrors/forwards", "repository=A", 400, ""},
		{"GET", "/mirrors/forwards", "limit=1001", 400, ""},
		{"POST", "/mirrors/retry", "rule=hq", 200, ""},
		{"DELETE", "/mirrors/forwards", "number=7", 200, ""},
		{"DELETE", "/mirrors/forwards", "number=x", 400, ""},
	} {
		rec, _ := send(h, c.method, Base+c.path, c.query)
		body := strings.ReplaceAll(rec.Body.String(), `": "`, `":"`)
		if rec.Code != c.status || !json.Valid(rec.Body.Bytes()) || !strings.Contains(body, c.want) {
			t.Errorf("%s %s?%s: %d %s", c.method, c.path, c.query, rec.Code, body)
		}
	}
	want := []string{"forwards {Rule:hq#2 Repository:a/b Open:true After:6 Limit:1}", "forwards {Rule: Repository: Open:false After:0 Limit:100}", "retry hq", "drop 7"}
	if diff := cmp.Diff(want, m.told); diff != "" {
		t.Error(diff)
	}
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
