package registrytest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func trashTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"DeleteRepository", testDeleteRepository},
		{"UndeleteRepository", testUndeleteRepository},
		{"UndeleteManifest", testUndeleteManifest},
		{"UndeleteTag", testUndeleteTag},
		{"UndeleteIndexWithChildren", testUndeleteIndexWithChildren},
		{"UndeleteUnlinked", testUndeleteUnlinked},
		{"PurgeEndsUndo", testPurgeEndsUndo},
		{"DeletedPages", testDeletedPages},
		{"CollectAndPlan", testCollectAndPlan},
	}
}

// deleted lists what can be restored, without places and times.
func (c *catalog) deleted(t *testing.T, repo registry.Name) []registry.Deleted {
	t.Helper()
	list, err := c.Deleted(t.Context(), alice, repo, registry.Page[registry.Cursor]{Limit: 100})
	must(t, "Deleted", err)
	for i := range list.Items {
		d := &list.Items[i]
		if d.Cursor == "" || d.At == 0 || d.Until <= d.At {
			t.Errorf("Deleted: %+v lacks a cursor or times", d)
		}
		d.Cursor, d.At, d.Until = "", 0, 0
	}
	return list.Items
}

func (c *catalog) checkDeleted(t *testing.T, repo registry.Name, want ...registry.Deleted) {
	t.Helper()
	if diff := cmp.Diff(want, c.deleted(t, repo), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("Deleted of %q: -want +got\n%s", repo, diff)
	}
}

// I6: what was deleted with its repository is not to be had in any way.
func testDeleteRepository(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	d := c.image(t, "a", "1", "x")
	layer := c.link(t, "a", []byte("layer"))
	c.image(t, "b", "2", "y")
	must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "a"))
	for what, call := range map[string]func() error{
		"Manifest by tag": func() error {
			_, err := c.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Tag: "x"}})
			return err
		},
		"Manifest by digest": func() error {
			_, err := c.Manifest(ctx, alice, "a", registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
			return err
		},
		"Blob":       func() error { _, err := c.Blob(ctx, alice, "a", layer.Digest); return err },
		"Tags":       func() error { _, err := c.Tags(ctx, alice, "a", registry.Page[registry.Tag]{Limit: 1}); return err },
		"TagHistory": func() error { _, err := c.TagHistory(ctx, alice, "a", "x", 1); return err },
		"again":      func() error { return c.DeleteRepository(ctx, alice, "a") },
	} {
		if err := call(); !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%s: got error %v, want ErrNameUnknown", what, err)
		}
	}
	for _, from := range []registry.Name{"a", ""} {
		for _, digest := range []registry.Digest{layer.Digest, d} {
			if _, err := c.Mount(ctx, alice, "b", digest, from); !errors.Is(err, registry.ErrBlobUnknown) {
				t.Errorf("Mount from %q: got error %v, want ErrBlobUnknown", from, err)
			}
		}
	}
	list, err := c.Repositories(ctx, alice, registry.Page[registry.Name]{Limit: 10})
	must(t, "Repositories", err)
	if diff := cmp.Diff([]registry.Name{"b"}, list.Items); diff != "" {
		t.Errorf("Repositories: -want +got\n%s", diff)
	}
	c.checkDeleted(t, "", registry.Deleted{Repo: "a", Actor: "alice"})
	c.image(t, "a", "3", "z") // the name is free
	if diff := cmp.Diff([]registry.Tag{"z"}, c.tags(t, "a", 10)); diff != "" {
		t.Errorf("Tags of the new repository: -want +got\n%s", diff)
	}
}

func testUndeleteRepository(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	d := c.image(t, "a", "1", "x", "y")
	layer := c.link(t, "a", []byte("layer"))
	whole := registry.Reference{}
	if err := c.Undelete(ctx, alice, "a", whole); !errors.Is(err, registry.ErrPreconditionFailed) {
		t.Errorf("Undelete of what is there: got error %v", err)
	}
	if err := c.Undelete(ctx, alice, "b", whole); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("Undelete of what never was: got error %v", err)
	}
	must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "a"))
	must(t, "Undelete", c.Undelete(ctx, alice, "a", whole))
	c.checkTag(t, "a", "x", d)
	c.checkTag(t, "a", "y", d)
	c.checkBlob(t, "a", layer)
	if diff := cmp.Diff([]registry.Digest{d}, c.history(t, "a", "x", 10)); diff != "" {
		t.Errorf("TagHistory: -want +got\n%s", diff)
	}
	c.checkDeleted(t, "")
	// With another one of the same name there is no way back.
	must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "a"))
	c.image(t, "a", "2", "z")
	if err := c.Undelete(ctx, alice, "a", whole); !errors.Is(err, registry.ErrPreconditionFailed) {
		t.Errorf("Undelete beside another one: got error %v", err)
	}
}

func testUndeleteManifest(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	data := c.imageBytes(t, "a", "1")
	d := c.put(t, "a", registry.TypeManifest, data, "x", "y")
	other := c.image(t, "a", "2")
	ref := registry.Reference{Digest: d}
	must(t, "DeleteManifest", c.deleteManifest(t, d))
	c.checkNoManifest(t, "a", d)
	c.checkDeleted(t, "a", registry.Deleted{Repo: "a", Digest: d, Tags: []registry.Tag{"x", "y"}, Size: int64(len(data)), Actor: "alice"})
	c.put(t, "a", registry.TypeManifest, c.imageBytes(t, "a", "2"), "y") // y is something else now
	must(t, "Undelete", c.Undelete(ctx, alice, "a", ref))
	c.checkManifest(t, "a", ref, registry.TypeManifest, data)
	c.checkTag(t, "a", "x", d)
	c.checkTag(t, "a", "y", other)
	c.checkDeleted(t, "")
	if err := c.Undelete(ctx, alice, "a", ref); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("Undelete again: got error %v", err)
	}
	if diff := cmp.Diff([]registry.Digest{d, "", d}, c.history(t, "a", "x", 10)); diff != "" {
		t.Errorf("TagHistory: -want +got\n%s", diff)
	}
	if c.reopen(t) {
		c.checkTag(t, "a", "x", d)
	}
}

func testUndeleteTag(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	d := c.image(t, "a", "1", "x", "y")
	undelete := func(tag registry.Tag) error { return c.Undelete(ctx, alice, "a", registry.Reference{Tag: tag}) }
	if err := undelete("x"); !errors.Is(err, registry.ErrPreconditionFailed) {
		t.Errorf("Undelete of a tag that exists: got error %v", err)
	}
	if err := undelete("never"); !errors.Is(err, registry.ErrManifestUnknown) {
		t.Errorf("Undelete of a tag that never was: got error %v", err)
	}
	must(t, "DeleteTag", c.DeleteTag(ctx, alice, "a", "x", registry.Condition{}))
	size := int64(len(c.get(t, "a", registry.Reference{Digest: d}).Bytes))
	c.checkDeleted(t, "a", registry.Deleted{Repo: "a", Digest: d, Tag: "x", Size: size, Actor: "alice"})
	c.checkDeleted(t, "", registry.Deleted{Repo: "a", Digest: d, Tag: "x", Size: size, Actor: "alice"})
	c.checkDeleted(t, "b")
	must(t, "Undelete", undelete("x"))
	c.checkTag(t, "a", "x", d)
	c.checkDeleted(t, "a")
	// With its manifest, but not with the other tags of that.
	must(t, "DeleteManifest", c.deleteManifest(t, d))
	c.checkDeleted(t, "a", registry.Deleted{Repo: "a", Digest: d, Tags: []registry.Tag{"x", "y"}, Size: size, Actor: "alice"})
	must(t, "Undelete", undelete("x"))
	c.checkTag(t, "a", "x", d)
	c.checkTag(t, "a", "y", "")
	c.checkDeleted(t, "a", registry.Deleted{Repo: "a", Digest: d, Tag: "y", Size: size, Actor: "alice"})
}

func testUndeleteIndexWithChildren(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	child := c.imageBytes(t, "a", "1")
	cd := c.put(t, "a", registry.TypeManifest, child)
	data := indexOf(registry.Descriptor{MediaType: registry.TypeManifest, Digest: cd, Size: int64(len(child))})
	id := c.put(t, "a", registry.TypeIndex, data, "multi")
	must(t, "DeleteManifest", c.deleteManifest(t, id))
	must(t, "DeleteManifest", c.deleteManifest(t, cd))
	must(t, "Undelete", c.Undelete(t.Context(), alice, "a", registry.Reference{Tag: "multi"}))
	c.checkTag(t, "a", "multi", id)
	c.checkManifest(t, "a", registry.Reference{Digest: cd}, registry.TypeManifest, child)
	if err := c.deleteManifest(t, cd); !errors.Is(err, registry.ErrInUse) {
		t.Errorf("DeleteManifest of a child that came back: got error %v, want ErrInUse", err)
	}
}

// What a deleted manifest needs stays until that can't be undone any more, also if
// somebody makes it unknown in the repository.
func testUndeleteUnlinked(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	d := c.image(t, "a", "1", "x")
	info, err := registry.ParseManifest(registry.TypeManifest, c.get(t, "a", registry.Reference{Digest: d}).Bytes)
	must(t, "ParseManifest", err)
	must(t, "DeleteManifest", c.deleteManifest(t, d))
	for _, r := range info.References {
		must(t, "Unlink", c.Unlink(ctx, alice, "a", r.Digest))
	}
	must(t, "Undelete", c.Undelete(ctx, alice, "a", registry.Reference{Tag: "x"}))
	c.checkTag(t, "a", "x", d)
	for _, r := range info.References {
		if _, err := c.Blob(ctx, alice, "a", r.Digest); err != nil {
			t.Errorf("Blob %s of the manifest that came back: %v", r.Digest, err)
		}
	}
}

func testPurgeEndsUndo(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	for _, repo := range []registry.Name{"", "a"} {
		d := c.image(t, "a", "1", "x")
		c.image(t, "b", "2", "y")
		must(t, "DeleteManifest", c.deleteManifest(t, d))
		must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "b"))
		must(t, "Purge", c.Purge(ctx, alice, repo))
		if err := c.Undelete(ctx, alice, "a", registry.Reference{Digest: d}); !errors.Is(err, registry.ErrManifestUnknown) {
			t.Errorf("Undelete after a purge of %q: got error %v", repo, err)
		}
		err := c.Undelete(ctx, alice, "b", registry.Reference{})
		if repo == "" && !errors.Is(err, registry.ErrNameUnknown) || repo == "a" && err != nil {
			t.Errorf("Undelete of b after a purge of %q: got error %v", repo, err)
		}
	}
	c.checkDeleted(t, "a")
}

func testDeletedPages(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	want := map[registry.Digest]bool{}
	for _, repo := range []registry.Name{"a", "b"} {
		for _, seed := range []string{"1", "2", "3"} {
			d := c.image(t, repo, string(repo)+seed)
			want[d] = true
			must(t, "DeleteManifest", c.DeleteManifest(ctx, alice, repo, d))
		}
	}
	c.image(t, "c", "4")
	must(t, "DeleteRepository", c.DeleteRepository(ctx, alice, "c"))
	tags := map[registry.Tag]bool{}
	for _, tag := range []registry.Tag{"x", "y", "z"} {
		tags[tag] = true
		c.image(t, "d", "5", tag)
		must(t, "DeleteTag", c.DeleteTag(ctx, alice, "d", tag, registry.Condition{}))
	}
	repos := 0
	for after, more := registry.Cursor(""), true; more; {
		list, err := c.Deleted(ctx, alice, "", registry.Page[registry.Cursor]{After: after, Limit: 2})
		must(t, "Deleted", err)
		if len(list.Items) == 0 || len(list.Items) > 2 {
			t.Fatalf("a page of 2 has %d entries", len(list.Items))
		}
		for _, d := range list.Items {
			after = d.Cursor
			switch {
			case d.Digest == "":
				repos++
			case d.Tag != "" && !tags[d.Tag], d.Tag == "" && !want[d.Digest]:
				t.Errorf("%s %s is listed twice, or was not deleted", d.Digest, d.Tag)
			case d.Tag != "":
				delete(tags, d.Tag)
			default:
				delete(want, d.Digest)
			}
		}
		more = list.More
	}
	if len(want)+len(tags) > 0 || repos != 1 {
		t.Errorf("%d manifests and %d tags are not listed, and %d repositories, want 0, 0 and 1", len(want), len(tags), repos)
	}
}

func testCollectAndPlan(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Reaper: anyReaper{}})
	c.image(t, "a", "1", "x")
	c.link(t, "a", []byte("loose"))
	// What was linked a moment ago is promised.
	done, err := c.Collect(t.Context(), alice)
	must(t, "Collect", err)
	if done.Links+done.Blobs+done.Manifests+done.Repositories > 0 {
		t.Errorf("Collect removed something: %+v", done)
	}
	list, err := c.Plan(t.Context(), alice, registry.Page[registry.Cursor]{Limit: 10})
	must(t, "Plan", err)
	for _, d := range list.Items { // an implementation that collects nothing has no plan
		if d.Kind != registry.DoomedLink || d.Repo != "a" || d.Digest != sha256of([]byte("loose")) || d.Reason == "" || d.Cursor == "" {
			t.Errorf("Plan has %+v, want only the loose blob", d)
		}
	}
}

// anyReaper removes whatever it is told to.
type anyReaper struct{ registry.Reaper }

func (anyReaper) Remove(context.Context, registry.Stored) error { return nil }

func (anyReaper) Copies(context.Context, registry.Pool, *registry.Stored, int) ([]registry.Stored, error) {
	return nil, nil
}
