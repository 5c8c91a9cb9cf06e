package registrytest

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func repositoryTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"UploadKeys", testUploadKeys},
		{"CatalogCheck", testCatalogCheck},
		{"Admit", testAdmit},
		{"Repositories", testRepositories},
		{"RepositoryExists", testRepositoryExists},
		{"CatalogCallsCanceled", testCatalogCanceled},
	}
}

func testUploadKeys(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	keys := func() []registry.Key {
		got, err := c.UploadKeys(t.Context())
		must(t, "UploadKeys", err)
		return got
	}
	first := keys()
	if len(first) == 0 {
		t.Fatal("UploadKeys: no key")
	}
	seen := make(map[string]bool)
	for _, k := range first {
		if k.ID == "" || seen[k.ID] || len(k.Secret) != 32 {
			t.Errorf("UploadKeys: key %q with %d bytes, want an ID of its own and 32", k.ID, len(k.Secret))
		}
		if !slices.ContainsFunc(k.Secret, func(b byte) bool { return b != 0 }) {
			t.Errorf("UploadKeys: key %q is all zeros", k.ID)
		}
		seen[k.ID] = true
	}
	if diff := cmp.Diff(first, keys()); diff != "" {
		t.Errorf("UploadKeys changed: -before +after\n%s", diff)
	}
	if c.reopen(t) {
		if diff := cmp.Diff(first, keys()); diff != "" {
			t.Errorf("UploadKeys changed by a crash: -before +after\n%s", diff)
		}
	}
	other := b.open(t, CatalogOptions{})
	foreign, err := other.UploadKeys(t.Context())
	must(t, "UploadKeys", err)
	if len(foreign) > 0 && cmp.Equal(foreign[0].Secret, first[0].Secret) {
		t.Error("two catalogs have one key")
	}
}

func testCatalogCheck(t *testing.T, b CatalogBackend) {
	h, err := b.open(t, CatalogOptions{}).Check(t.Context())
	must(t, "Check", err)
	if h.ReadOnly != "" {
		t.Errorf("a new catalog is read-only: %s", h.ReadOnly)
	}
}

func testAdmit(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Pools: []registry.Pool{"/a", "/b"}})
	for repo, want := range map[registry.Name]registry.Pool{
		"a": "/a", "a/x": "/a", "a/b/c": "/a", "b/a": "/b", "ab": "", "ab/a": "", "c/a": "", "x": "",
	} {
		got, err := c.Admit(t.Context(), alice, repo)
		must(t, "Admit", err)
		if got != want {
			t.Errorf("Admit %s: got pool %q, want %q", repo, got, want)
		}
	}
	// It said they may, and nobody did.
	list, err := c.Repositories(t.Context(), alice, registry.Page[registry.Name]{Limit: 10})
	must(t, "Repositories", err)
	if len(list.Items) != 0 || list.More {
		t.Errorf("Repositories after Admit: got %+v, want none", list)
	}
}

func testRepositories(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	list := func(p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
		return c.Repositories(t.Context(), alice, p)
	}
	key := func(n registry.Name) registry.Name { return n }
	if got := pages(t, 10, key, list); len(got) != 0 {
		t.Errorf("Repositories of an empty catalog: %v", got)
	}
	// Byte order is not the order of people, nor of database collations.
	want := []registry.Name{"a", "a-b", "a.b", "a/b", "a/b-c", "a/b/c", "a0", "a_b", "a__b", "ab", "b", "b/a", "z9", "zz"}
	slices.Sort(want)
	for i := range want {
		c.link(t, want[(i*5+3)%len(want)], []byte("the same content"))
	}
	for _, limit := range []int{1, 2, 3, len(want), len(want) + 1, registry.MaxPage} {
		if diff := cmp.Diff(want, pages(t, limit, key, list)); diff != "" {
			t.Errorf("Repositories in pages of %d: -want +got\n%s", limit, diff)
		}
	}
	for after, want := range map[registry.Name][]registry.Name{
		"a":     want[1:],
		"a/0":   want[slices.Index(want, "a/b"):],
		"a/b":   want[slices.Index(want, "a/b")+1:],
		"a/b/b": want[slices.Index(want, "a/b/c"):],
		"m":     {"z9", "zz"},
		"zz":    {},
		"zzz":   {},
	} {
		got := pages(t, 4, key, func(p registry.Page[registry.Name]) (registry.List[registry.Name], error) {
			if p.After == "" {
				p.After = after
			}
			return list(p)
		})
		if !slices.Equal(got, want) {
			t.Errorf("Repositories after %s: got %v, want %v", after, got, want)
		}
	}
}

func testRepositoryExists(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	tags := func(repo registry.Name) error {
		_, err := c.Tags(t.Context(), alice, repo, registry.Page[registry.Tag]{Limit: 10})
		return err
	}
	wantErr(t, "Tags of no repository", tags("a"), registry.ErrNameUnknown)
	_, err := c.Blob(t.Context(), alice, "a", sha256of(nil))
	wantErr(t, "Blob of no repository", err, registry.ErrNameUnknown)

	c.link(t, "a", nil)
	must(t, "Tags after Link", tags("a"))

	c.put(t, "b", registry.TypeIndex, indexOf())
	must(t, "Tags after PutManifest", tags("b"))
	wantErr(t, "Tags of a part of a name", tags("a/b"), registry.ErrNameUnknown)
	c.link(t, "c/d", nil)
	wantErr(t, "Tags of a name's first part", tags("c"), registry.ErrNameUnknown)
}

func testCatalogCanceled(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	d := c.image(t, "a", "1", "one")
	s := c.copyOf("a", []byte("else"))
	index := indexOf()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for what, call := range map[string]func() error{
		"Repositories": func() error {
			_, err := c.Repositories(ctx, alice, registry.Page[registry.Name]{Limit: 1})
			return err
		},
		"Admit": func() error { _, err := c.Admit(ctx, alice, "a"); return err },
		"Tags": func() error {
			_, err := c.Tags(ctx, alice, "a", registry.Page[registry.Tag]{Limit: 1})
			return err
		},
		"TagHistory": func() error { _, err := c.TagHistory(ctx, alice, "a", "one", 1); return err },
		"Manifest": func() error {
			_, err := c.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "one"}})
			return err
		},
		"PutManifest": func() error {
			_, err := c.PutManifest(ctx, alice, "a", registry.ManifestPut{Digest: sha256of(index), MediaType: registry.TypeIndex, Bytes: index})
			return err
		},
		"DeleteTag":      func() error { return c.DeleteTag(ctx, alice, "a", "one", registry.Condition{}) },
		"DeleteManifest": func() error { return c.DeleteManifest(ctx, alice, "a", d) },
		"Referrers": func() error {
			_, err := c.Referrers(ctx, alice, "a", d, "", registry.Page[registry.Digest]{Limit: 1})
			return err
		},
		"Blob":       func() error { _, err := c.Blob(ctx, alice, "a", d); return err },
		"Link":       func() error { _, err := c.Link(ctx, alice, "a", s); return err },
		"Mount":      func() error { _, err := c.Mount(ctx, alice, "b", d, "a"); return err },
		"Unlink":     func() error { return c.Unlink(ctx, alice, "a", d) },
		"UploadKeys": func() error { _, err := c.UploadKeys(ctx); return err },
	} {
		wantCanceled(t, what, call())
	}
	c.checkTag(t, "a", "one", d)
}
