package registrytest

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func reopenTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ReopenKeepsAll", testReopenCatalog},
	}
}

// reopen crashes the catalog and opens it again. It reports whether it can.
func (c *catalog) reopen(t *testing.T) bool {
	t.Helper()
	if c.backend.Reopen == nil {
		t.Log("the backend can't be opened again")
		return false
	}
	c.Catalog = c.backend.Reopen(t, c.Catalog)
	return true
}

func testReopenCatalog(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	one := c.put(t, "a", registry.TypeManifest, data, "t", "kept")
	two := c.image(t, "a", "2", "t", "gone")
	three := c.image(t, "a", "3", "gone-too")
	blob := c.link(t, "a", []byte("a blob"))
	c.mount(t, "b/c", blob, "a")
	unlinked := c.link(t, "a", []byte("unlinked"))
	ref := c.put(t, "a", registry.TypeManifest, referrer(one, "type/x", []byte("config of 1")).bytes())
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "gone", registry.Condition{}))
	must(t, "DeleteManifest", c.deleteManifest(t, three))
	must(t, "Unlink", c.Unlink(t.Context(), alice, "a", unlinked.Digest))
	before, err := c.TagHistory(t.Context(), alice, "a", "t", 10)
	must(t, "TagHistory", err)

	for range 2 {
		if !c.reopen(t) {
			return
		}
		c.checkManifest(t, "a", registry.Reference{Tag: "kept"}, registry.TypeManifest, data)
		c.checkManifest(t, "a", registry.Reference{Digest: one}, registry.TypeManifest, data)
		c.checkTag(t, "a", "t", two)
		if diff := cmp.Diff([]registry.Tag{"kept", "t"}, c.tags(t, "a", 10)); diff != "" {
			t.Errorf("Tags: -want +got\n%s", diff)
		}
		after, err := c.TagHistory(t.Context(), alice, "a", "t", 10)
		must(t, "TagHistory", err)
		if diff := cmp.Diff(before, after, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("TagHistory: -before +after\n%s", diff)
		}
		c.checkNoManifest(t, "a", three)
		c.checkBlob(t, "a", blob)
		c.checkBlob(t, "b/c", blob)
		_, err = c.Blob(t.Context(), alice, "a", unlinked.Digest)
		wantErr(t, "Blob that was unlinked", err, registry.ErrBlobUnknown)
		if got := c.referrers(t, "a", one, "type/x", 10); len(got) != 1 || got[0].Digest != ref {
			t.Errorf("Referrers: got %v, want %s", got, ref)
		}
		repos, err := c.Repositories(t.Context(), alice, registry.Page[registry.Name]{Limit: 10})
		must(t, "Repositories", err)
		if diff := cmp.Diff([]registry.Name{"a", "b/c"}, repos.Items); diff != "" {
			t.Errorf("Repositories: -want +got\n%s", diff)
		}
	}
	c.image(t, "a", "4", "new") // and it goes on
}
