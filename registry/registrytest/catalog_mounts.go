package registrytest

import (
	"testing"

	"github.com/berth-registry/berth/registry"
)

func mountTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"MountFrom", testMountFrom},
		{"MountFromAnywhere", testMountFromAnywhere},
		{"MountUnknown", testMountUnknown},
		{"MountFromAnotherPool", testMountFromAnotherPool},
	}
}

func (c *catalog) mount(t *testing.T, repo registry.Name, s registry.Stored, from registry.Name) {
	t.Helper()
	got, err := c.Mount(t.Context(), alice, repo, s.Digest, from)
	must(t, "Mount", err)
	if got != s {
		t.Errorf("Mount: got %+v, want %+v", got, s)
	}
	c.checkBlob(t, repo, s)
}

func testMountFrom(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := []byte("one")
	s := c.link(t, "a", data)
	c.mount(t, "b", s, "a")
	c.mount(t, "b", s, "a")
	c.mount(t, "a/c", s, "b")
	c.mount(t, "a", s, "a")
	c.put(t, "b", registry.TypeManifest, imageOf(data))

	// A mount does not depend on where it came from.
	must(t, "Unlink", c.Unlink(t.Context(), alice, "a", s.Digest))
	c.checkBlob(t, "b", s)
	c.checkBlob(t, "a/c", s)
}

func testMountFromAnywhere(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	s := c.link(t, "a", []byte("one"))
	c.mount(t, "b", s, "")
	c.mount(t, "b", s, "")
	must(t, "Unlink", c.Unlink(t.Context(), alice, "a", s.Digest))
	c.mount(t, "c", s, "")
}

func testMountUnknown(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	s := c.link(t, "a", []byte("one"))
	c.link(t, "b", []byte("two"))
	for _, m := range []struct {
		what string
		d    registry.Digest
		from registry.Name
	}{
		{"a digest nobody knows", sha256of([]byte("nothing")), "a"},
		{"a digest nobody knows, from anywhere", sha256of([]byte("nothing")), ""},
		{"a digest that another repository knows", s.Digest, "b"},
		{"a repository that is not there", s.Digest, "x"},
		{"a part of a repository's name", s.Digest, "a/b"},
		{"the repository itself, which is not there", s.Digest, "new"},
	} {
		_, err := c.Mount(t.Context(), alice, "new", m.d, m.from)
		wantErr(t, "Mount of "+m.what, err, registry.ErrBlobUnknown)
	}
	_, err := c.Tags(t.Context(), alice, "new", registry.Page[registry.Tag]{Limit: 1})
	wantErr(t, "Tags where no mount was possible", err, registry.ErrNameUnknown)
}

func testMountFromAnotherPool(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Pools: []registry.Pool{"/a"}})
	s := c.link(t, "a/x", []byte("one"))
	c.mount(t, "a/y", s, "a/x")
	c.mount(t, "a/z", s, "")

	// A catalog moves no bytes: either it may link across pools or it can't.
	for _, from := range []registry.Name{"a/x", ""} {
		got, err := c.Mount(t.Context(), alice, "b", s.Digest, from)
		if err != nil {
			wantErr(t, "Mount from another pool", err, registry.ErrBlobUnknown)
			continue
		}
		if got != s {
			t.Errorf("Mount from another pool: got %+v, want %+v", got, s)
		}
		c.checkBlob(t, "b", s)
	}
	own := c.copyOf("b", []byte("one"))
	got, err := c.Link(t.Context(), alice, "b", own)
	must(t, "Link", err)
	if got != own && got != s {
		t.Errorf("Link: got %+v, want %+v or %+v", got, own, s)
	}
	c.checkBlob(t, "b", got)
}
