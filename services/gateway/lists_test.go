package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// longCatalog has n tags in every repository and referrers of every digest, and
// sends at most few of them at a time.
type longCatalog struct {
	registry.Catalog
	n, few     int
	failAfter  int // calls of Tags, 0: never
	calls      int
	annotation string
}

func (c *longCatalog) Tags(ctx context.Context, a registry.Actor, repo registry.Name, p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
	if c.calls++; c.failAfter > 0 && c.calls > c.failAfter {
		return registry.List[registry.Tag]{}, registry.ErrInternal
	}
	if p.Limit < 1 || p.Limit > registry.MaxPage {
		return registry.List[registry.Tag]{}, fmt.Errorf("limit %d", p.Limit)
	}
	var l registry.List[registry.Tag]
	for i := range c.n {
		if t := registry.Tag(fmt.Sprintf("t%07d", i)); t > p.After {
			l.Items = append(l.Items, t)
			if len(l.Items) == min(p.Limit, c.few) {
				l.More = i < c.n-1
				break
			}
		}
	}
	return l, nil
}

func (c *longCatalog) Referrers(ctx context.Context, a registry.Actor, repo registry.Name, d registry.Digest, artifactType string, p registry.Page[registry.Digest]) (registry.List[registry.Descriptor], error) {
	var l registry.List[registry.Descriptor]
	for i := range c.n {
		if d := registry.Digest(fmt.Sprintf("sha256:%064x", i)); d > p.After {
			l.Items = append(l.Items, registry.Descriptor{Digest: d, MediaType: registry.TypeManifest, Annotations: map[string]string{"a": c.annotation}})
			if len(l.Items) == min(p.Limit, c.few) {
				l.More = i < c.n-1
				break
			}
		}
	}
	return l, nil
}

func tagsOf(t *testing.T, a answer) []string {
	t.Helper()
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(a.want(t, 200).body), &list); err != nil {
		t.Fatalf("%v in %.100q", err, a.body)
	}
	return list.Tags
}

func TestTagsAreCompleteByDefault(t *testing.T) {
	for _, c := range []*longCatalog{{n: 25_000, few: registry.MaxPage}, {n: 300, few: 7}, {n: 0, few: 1}, {n: 1, few: 1}} {
		w := newWorld()
		c.Catalog = w.deps.Catalog
		w.deps.Catalog = c
		url := w.serve(t) + "/v2/a/tags/list"
		if got := tagsOf(t, do(t, "GET", url, nil)); len(got) != c.n || c.n > 0 && got[c.n-1] != fmt.Sprintf("t%07d", c.n-1) {
			t.Errorf("%+v: got %d tags", c, len(got))
		}
	}
}

func TestTagsByLinks(t *testing.T) {
	w := newWorld()
	w.deps.Catalog = &longCatalog{Catalog: w.deps.Catalog, n: 25, few: 3}
	url := w.serve(t)
	next, pages, all := "/v2/a/tags/list?n=10", 0, []string{}
	for next != "" {
		got := do(t, "GET", url+next, nil)
		tags := tagsOf(t, got)
		if all = append(all, tags...); len(tags) != 10 && len(all) != 25 {
			t.Errorf("%s: %d tags", next, len(tags))
		}
		pages++
		next, _, _ = strings.Cut(strings.TrimPrefix(got.header.Get("Link"), "<"), `>; rel="next"`)
	}
	if pages != 3 || len(all) != 25 {
		t.Errorf("got %d tags on %d pages", len(all), pages)
	}
}

// TestHugeNIsCut asks for more than there may be on a page (S-100).
func TestHugeNIsCut(t *testing.T) {
	w := newWorld()
	w.deps.Catalog = &longCatalog{Catalog: w.deps.Catalog, n: registry.MaxPage + 5, few: registry.MaxPage}
	url := w.serve(t)
	for _, n := range []string{"2147483647", "9223372036854775808"} {
		got := do(t, "GET", url+"/v2/a/tags/list?n="+n, nil)
		if tags := tagsOf(t, got); len(tags) != registry.MaxPage || got.header.Get("Link") == "" {
			t.Errorf("n=%s: got %d tags, Link %q", n, len(tags), got.header.Get("Link"))
		}
	}
}

// TestBrokenListBreaksTheConnection: half a list must not look like a list.
func TestBrokenListBreaksTheConnection(t *testing.T) {
	w := newWorld()
	w.deps.Catalog = &longCatalog{Catalog: w.deps.Catalog, n: 5000, few: 1000, failAfter: 3}
	res, err := (&http.Client{Transport: transport}).Get(w.serve(t) + "/v2/a/tags/list")
	if err != nil {
		return
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half a list ended cleanly: %d bytes", len(b))
	}
}

func TestP56LargeReferrersArePaged(t *testing.T) {
	w := newWorld()
	w.deps.Catalog = &longCatalog{Catalog: w.deps.Catalog, n: 250, few: 100, annotation: strings.Repeat("x", 100_000)}
	url := w.serve(t)
	next, pages := "/v2/a/referrers/"+digestA, 0
	seen := make(map[registry.Digest]bool)
	for next != "" {
		got := do(t, "GET", url+next, nil).want(t, 200)
		if len(got.body) > maxReferrers+10 {
			t.Errorf("%s: %d bytes", next, len(got.body))
		}
		var index struct{ Manifests []registry.Descriptor }
		if err := json.Unmarshal([]byte(got.body), &index); err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			seen[d.Digest] = true
		}
		pages++
		next, _, _ = strings.Cut(strings.TrimPrefix(got.header.Get("Link"), "<"), `>; rel="next"`)
	}
	if len(seen) != 250 || pages != 7 {
		t.Errorf("got %d referrers on %d pages", len(seen), pages)
	}
}
