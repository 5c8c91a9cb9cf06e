package registrytest

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func deleteTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"DeleteTag", testDeleteTag},
		{"DeleteManifest", testDeleteManifest},
		{"DeleteManifestInUse", testDeleteManifestInUse},
		{"DeleteManifestOfTwoNames", testDeleteManifestOfTwoNames},
		{"DeleteUnknown", testDeleteUnknown},
	}
}

func (c *catalog) deleteManifest(t *testing.T, d registry.Digest) error {
	t.Helper()
	return c.DeleteManifest(t.Context(), alice, "a", d)
}

func testDeleteTag(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	d := c.put(t, "a", registry.TypeManifest, data, "one", "two")
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "one", registry.Condition{}))
	c.checkTag(t, "a", "one", "")
	c.checkTag(t, "a", "two", d)
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "two", registry.Condition{}))
	c.checkManifest(t, "a", registry.Reference{Digest: d}, registry.TypeManifest, data)
	if got := c.tags(t, "a", 10); len(got) != 0 {
		t.Errorf("Tags: got %v, want none", got)
	}
	c.put(t, "a", registry.TypeManifest, data, "one")
	c.checkTag(t, "a", "one", d)
}

func testDeleteManifest(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one := c.imageBytes(t, "a", "1")
	d1 := c.put(t, "a", registry.TypeManifest, one, "x", "y")
	d2 := c.image(t, "a", "2", "z")
	c.imageBytes(t, "b", "1")
	c.put(t, "b", registry.TypeManifest, one, "x")
	must(t, "DeleteManifest", c.deleteManifest(t, d1))
	c.checkNoManifest(t, "a", d1)
	if diff := cmp.Diff([]registry.Tag{"z"}, c.tags(t, "a", 10)); diff != "" {
		t.Errorf("Tags: -want +got\n%s", diff)
	}
	c.checkTag(t, "a", "x", "")
	c.checkTag(t, "a", "z", d2)
	c.checkTag(t, "b", "x", d1)
	for _, tag := range []registry.Tag{"x", "y"} {
		if diff := cmp.Diff([]registry.Digest{"", d1}, c.history(t, "a", tag, 10)); diff != "" {
			t.Errorf("TagHistory of %s: -want +got\n%s", tag, diff)
		}
	}
	_, err := c.Blob(t.Context(), alice, "a", d1)
	wantErr(t, "Blob of a manifest that is gone", err, registry.ErrBlobUnknown)

	// Its content is still there, and what was deleted can be pushed again.
	c.put(t, "a", registry.TypeManifest, one, "x")
	c.checkManifest(t, "a", registry.Reference{Tag: "x"}, registry.TypeManifest, one)
	c.checkTag(t, "a", "y", "")
}

func testDeleteManifestInUse(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	child := c.imageBytes(t, "a", "1")
	inner := indexOf(descriptor(registry.TypeManifest, child))
	outer := indexOf(descriptor(registry.TypeIndex, inner))
	c.put(t, "a", registry.TypeManifest, child, "child")
	c.put(t, "a", registry.TypeIndex, inner)
	c.put(t, "a", registry.TypeIndex, outer, "outer")
	c.imageBytes(t, "b", "1")
	c.put(t, "b", registry.TypeManifest, child)

	wantErr(t, "DeleteManifest of a child", c.deleteManifest(t, sha256of(child)), registry.ErrInUse)
	wantErr(t, "DeleteManifest of an inner index", c.deleteManifest(t, sha256of(inner)), registry.ErrInUse)
	c.checkTag(t, "a", "child", sha256of(child)) // not even its tags
	must(t, "DeleteManifest where no index lists it", c.DeleteManifest(t.Context(), alice, "b", sha256of(child)))

	must(t, "DeleteManifest of the outer index", c.deleteManifest(t, sha256of(outer)))
	wantErr(t, "DeleteManifest of a child", c.deleteManifest(t, sha256of(child)), registry.ErrInUse)
	must(t, "DeleteManifest of the inner index", c.deleteManifest(t, sha256of(inner)))
	must(t, "DeleteManifest of the child", c.deleteManifest(t, sha256of(child)))
	c.checkTag(t, "a", "child", "")
}

// testDeleteManifestOfTwoNames: what is removed under one digest is not to be read
// under the other (S-085).
func testDeleteManifestOfTwoNames(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	short, long := sha256of(data), registry.SHA512.FromBytes(data)
	for _, d := range []registry.Digest{short, long} {
		for _, put := range []registry.ManifestPut{
			{Digest: short, Tags: []registry.Tag{"short"}},
			{Digest: long, Tags: []registry.Tag{"long", "too"}},
		} {
			put.MediaType, put.Bytes = registry.TypeManifest, data
			_, err := c.PutManifest(t.Context(), alice, "a", put)
			must(t, "PutManifest", err)
		}
		c.checkTag(t, "a", "long", long)
		must(t, "DeleteManifest", c.deleteManifest(t, d))
		c.checkNoManifest(t, "a", short)
		c.checkNoManifest(t, "a", long)
		if got := c.tags(t, "a", 10); len(got) != 0 {
			t.Errorf("Tags after %s was deleted: %v", d.Algorithm(), got)
		}
		_, err := c.Blob(t.Context(), alice, "a", long)
		wantErr(t, "Blob of a manifest that is gone", err, registry.ErrBlobUnknown)
	}

	// An index that lists one of the names holds both.
	c.put(t, "a", registry.TypeManifest, data, "short")
	_, err := c.PutManifest(t.Context(), alice, "a", registry.ManifestPut{Digest: long, MediaType: registry.TypeManifest, Bytes: data})
	must(t, "PutManifest", err)
	index := indexOf(descriptor(registry.TypeManifest, data))
	c.put(t, "a", registry.TypeIndex, index)
	wantErr(t, "DeleteManifest of the other name of a child", c.deleteManifest(t, long), registry.ErrInUse)
	c.checkTag(t, "a", "short", short)
	must(t, "DeleteManifest of the index", c.deleteManifest(t, sha256of(index)))
	must(t, "DeleteManifest of the child", c.deleteManifest(t, long))
	c.checkTag(t, "a", "short", "")
}

func testDeleteUnknown(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	blob := c.link(t, "a", []byte("a blob"))
	none := sha256of([]byte("nothing"))
	wantErr(t, "DeleteManifest", c.deleteManifest(t, none), registry.ErrManifestUnknown)
	wantErr(t, "DeleteManifest of a blob", c.deleteManifest(t, blob.Digest), registry.ErrManifestUnknown)
	wantErr(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "t", registry.Condition{}), registry.ErrManifestUnknown)
	c.checkBlob(t, "a", blob)
	if got := c.history(t, "a", "t", 10); len(got) != 0 {
		t.Errorf("TagHistory of a tag that never was: %v", got)
	}
	wantErr(t, "DeleteManifest of no repository", c.DeleteManifest(t.Context(), alice, "b", none), registry.ErrNameUnknown, registry.ErrManifestUnknown)
	wantErr(t, "DeleteTag of no repository", c.DeleteTag(t.Context(), alice, "b", "t", registry.Condition{}), registry.ErrNameUnknown, registry.ErrManifestUnknown)
}
