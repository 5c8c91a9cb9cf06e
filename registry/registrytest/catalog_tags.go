package registrytest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func tagTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Tags", testTags},
		{"TagsOfManyRepositories", testTagsApart},
		{"TagHistory", testTagHistory},
		{"TagHistoryLimit", testTagHistoryLimit},
	}
}

// tags returns all tags of repo.
func (c *catalog) tags(t *testing.T, repo registry.Name, limit int) []registry.Tag {
	t.Helper()
	return pages(t, limit, func(t registry.Tag) registry.Tag { return t }, func(p registry.Page[registry.Tag]) (registry.List[registry.Tag], error) {
		return c.Tags(t.Context(), alice, repo, p)
	})
}

func testTags(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	c.link(t, "a", []byte("something"))
	if got := c.tags(t, "a", 10); len(got) != 0 {
		t.Errorf("Tags of a repository with blobs only: %v", got)
	}
	// Byte order: 1.10 before 1.9, upper case before lower case, _ between.
	want := []registry.Tag{"1.10", "1.9", "A", "Z", "_", "a", "a-1", "a.1", "a1", "aA", "a_1", "aa", "latest", "z"}
	slices.Sort(want)
	for i := range want {
		c.image(t, "a", "one of two "+fmt.Sprint(i%2), want[(i*5+3)%len(want)])
	}
	for _, limit := range []int{1, 2, 3, len(want), len(want) + 1, registry.MaxPage} {
		if diff := cmp.Diff(want, c.tags(t, "a", limit)); diff != "" {
			t.Errorf("Tags in pages of %d: -want +got\n%s", limit, diff)
		}
	}
	for after, from := range map[registry.Tag]registry.Tag{
		"1.10": "1.9", "1.11": "1.9", "B": "Z", "AA": "Z", "b": "latest", "Zz": "_", "a-": "a-1", "0": "1.10",
	} {
		got, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{After: after, Limit: 1})
		must(t, "Tags", err)
		if len(got.Items) != 1 || got.Items[0] != from || !got.More {
			t.Errorf("Tags after %s: got %+v, want %s and more", after, got, from)
		}
	}
	for _, after := range []registry.Tag{"z", "zz"} {
		got, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{After: after, Limit: 1})
		must(t, "Tags", err)
		if len(got.Items) != 0 || got.More {
			t.Errorf("Tags after %s: got %+v, want none", after, got)
		}
	}
	got, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{After: "latest", Limit: 1})
	must(t, "Tags", err)
	if len(got.Items) != 1 || got.More {
		t.Errorf("the last page: got %+v, want z and no more", got)
	}
}

func testTagsApart(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	d1 := c.image(t, "a", "1", "same", "a1")
	d2 := c.image(t, "a/b", "2", "same", "b1")
	c.checkTag(t, "a", "same", d1)
	c.checkTag(t, "a/b", "same", d2)
	c.checkTag(t, "a", "b1", "")
	if diff := cmp.Diff([]registry.Tag{"a1", "same"}, c.tags(t, "a", 1)); diff != "" {
		t.Errorf("Tags: -want +got\n%s", diff)
	}
	must(t, "DeleteTag", c.DeleteTag(t.Context(), alice, "a", "same", registry.Condition{}))
	c.checkTag(t, "a/b", "same", d2)
}

// history returns the digests of a tag's history, latest first, and checks the
// rest of it.
func (c *catalog) history(t *testing.T, repo registry.Name, tag registry.Tag, limit int) []registry.Digest {
	t.Helper()
	h, err := c.TagHistory(t.Context(), alice, repo, tag, limit)
	must(t, "TagHistory", err)
	digests := make([]registry.Digest, 0, len(h))
	for i, change := range h {
		// Microseconds: the years 2000 to 2200, in case the clock is a fake.
		if change.At < 900e12 || change.At > 7300e12 {
			t.Errorf("TagHistory: entry %d is of %d, which are no microseconds of this age", i, change.At)
		}
		if i > 0 && change.At > h[i-1].At {
			t.Errorf("TagHistory: entry %d is younger than the one before", i)
		}
		digests = append(digests, change.Digest)
	}
	return digests
}

func testTagHistory(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	one := c.image(t, "a", "1", "t", "other")
	two := c.image(t, "a", "2", "t")
	c.image(t, "a", "2", "t") // changes nothing
	data := c.imageBytes(t, "a", "1")
	for _, who := range []registry.Actor{{ID: "bob"}, {}} {
		tag := registry.Tag("by-" + who.ID)
		_, err := c.PutManifest(t.Context(), who, "a", registry.ManifestPut{Digest: one, MediaType: registry.TypeManifest, Bytes: data, Tags: []registry.Tag{"t", tag}})
		must(t, "PutManifest", err)
		h, err := c.TagHistory(t.Context(), alice, "a", tag, 10)
		must(t, "TagHistory", err)
		if len(h) != 1 || h[0].Actor != who.ID || h[0].Digest != one {
			t.Errorf("TagHistory: got %+v, want one entry, %s by %q", h, one, who.ID)
		}
	}
	must(t, "DeleteTag", c.DeleteTag(t.Context(), registry.Actor{ID: "eve"}, "a", "t", registry.Condition{}))
	c.image(t, "a", "2", "t")
	must(t, "DeleteManifest", c.DeleteManifest(t.Context(), alice, "a", two))

	if diff := cmp.Diff([]registry.Digest{"", two, "", one, two, one}, c.history(t, "a", "t", 1000)); diff != "" {
		t.Errorf("TagHistory: -want +got\n%s", diff)
	}
	h, err := c.TagHistory(t.Context(), alice, "a", "t", 10)
	must(t, "TagHistory", err)
	var actors []string
	for _, change := range h {
		actors = append(actors, change.Actor)
	}
	if diff := cmp.Diff([]string{"alice", "alice", "eve", "bob", "alice", "alice"}, actors); diff != "" {
		t.Errorf("actors of TagHistory: -want +got\n%s", diff)
	}
	if diff := cmp.Diff([]registry.Digest{one}, c.history(t, "a", "other", 10)); diff != "" {
		t.Errorf("TagHistory of another tag: -want +got\n%s", diff)
	}
	if got := c.history(t, "a", "never", 10); len(got) != 0 {
		t.Errorf("TagHistory of a tag that never was: %v", got)
	}
}

func testTagHistoryLimit(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	var want []registry.Digest
	for i := range 7 {
		want = append(want, c.image(t, "a", fmt.Sprint(i), "t"))
	}
	slices.Reverse(want)
	for _, limit := range []int{1, 2, 6, 7, 8, 1000} {
		if diff := cmp.Diff(want[:min(limit, len(want))], c.history(t, "a", "t", limit)); diff != "" {
			t.Errorf("TagHistory of %d: -want +got\n%s", limit, diff)
		}
	}
}
