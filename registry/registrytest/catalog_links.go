package registrytest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
)

func linkTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"BlobUnknown", testBlobUnknown},
		{"BlobIsAManifest", testBlobIsAManifest},
		{"LinkAgain", testLinkAgain},
		{"LinkSecondCopy", testLinkSecondCopy},
		{"LinkNoCopy", testLinkNoCopy},
		{"LinkPools", testLinkPools},
		{"Unlink", testUnlink},
		{"UnlinkInUse", testUnlinkInUse},
	}
}

// recorder is a Reaper that tells what it removes.
type recorder struct{ removed chan registry.Stored }

func newRecorder() *recorder { return &recorder{make(chan registry.Stored, 1000)} }

func (r *recorder) Remove(ctx context.Context, s registry.Stored) error {
	r.removed <- s
	return ctx.Err()
}

func (r *recorder) Verify(ctx context.Context, _ registry.Stored, _ int64) error { return ctx.Err() }

func (r *recorder) Copies(ctx context.Context, _ registry.Pool, _ *registry.Stored, _ int) ([]registry.Stored, error) {
	return nil, ctx.Err()
}

// wait returns the next copies that are removed, until it has seen n of them.
func (r *recorder) wait(t *testing.T, n int) map[registry.Stored]bool {
	t.Helper()
	deadline := time.After(patience)
	got := make(map[registry.Stored]bool)
	for len(got) < n {
		select {
		case s := <-r.removed:
			got[s] = true
		case <-deadline:
			t.Fatalf("%d copies were removed in %v, want %d", len(got), patience, n)
		}
	}
	return got
}

func testBlobUnknown(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	s := c.link(t, "a", []byte("one"))
	c.link(t, "b", []byte("two"))
	c.checkBlob(t, "a", s)
	for repo, want := range map[registry.Name]error{"b": registry.ErrBlobUnknown, "c": registry.ErrNameUnknown, "a/b": registry.ErrNameUnknown} {
		_, err := c.Blob(t.Context(), alice, repo, s.Digest)
		wantErr(t, "Blob of "+string(repo), err, want)
	}
	_, err := c.Blob(t.Context(), alice, "a", registry.SHA512.FromString("one"))
	wantErr(t, "Blob by another algorithm", err, registry.ErrBlobUnknown)
}

func testBlobIsAManifest(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	d := c.put(t, "a", registry.TypeManifest, data)
	check := func(repo registry.Name) {
		t.Helper()
		got, err := c.Blob(t.Context(), alice, repo, d)
		must(t, "Blob", err)
		if got.Digest != d || got.Size != int64(len(data)) || got.Locator != "" || !bytes.Equal(got.Inline, data) {
			t.Errorf("Blob: got %+v, want %s, no locator, and the %d bytes", got, d, len(data))
		}
	}
	check("a")
	wantErr(t, "Unlink of a manifest", c.Unlink(t.Context(), alice, "a", d), registry.ErrInUse)
	check("a")
	_, err := c.Mount(t.Context(), alice, "b", d, "a")
	must(t, "Mount of a manifest", err)
	check("b")
	c.checkNoManifest(t, "b", d) // known as a blob only
	must(t, "DeleteManifest where it was mounted from", c.DeleteManifest(t.Context(), alice, "a", d))
	check("b")
}

func testLinkAgain(t *testing.T, b CatalogBackend) {
	r := newRecorder()
	c := b.open(t, CatalogOptions{Reaper: r})
	s := c.link(t, "a", []byte("one"))
	for _, repo := range []registry.Name{"a", "a", "b"} {
		got, err := c.Link(t.Context(), alice, repo, s)
		must(t, "Link again", err)
		if got != s {
			t.Errorf("Link again: got %+v, want %+v", got, s)
		}
		c.checkBlob(t, repo, s)
	}
	// What is no second copy must not be removed. Let the removal of one that
	// is go by, and of others before.
	second := c.copyOf("a", []byte("one"))
	_, err := c.Link(t.Context(), alice, "b", second)
	must(t, "Link of a second copy", err)
	if got := r.wait(t, 1); !got[second] {
		t.Errorf("removed was %v, want %v", got, second)
	}
	c.checkBlob(t, "a", s)
}

// What names no copy must not become content that manifests rely on.
func testLinkNoCopy(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	good := c.copyOf("a", []byte("one"))
	for _, s := range []registry.Stored{
		{Digest: good.Digest, Size: good.Size, Pool: good.Pool},
		{Digest: good.Digest, Size: -1, Pool: good.Pool, Locator: good.Locator},
	} {
		if _, err := c.Link(t.Context(), alice, "a", s); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Errorf("Link of %+v: got error %v, want ErrBlobUnknown", s, err)
		}
	}
	if _, err := c.Blob(t.Context(), alice, "a", good.Digest); !errors.Is(err, registry.ErrNameUnknown) {
		t.Errorf("Blob: got error %v, want ErrNameUnknown", err)
	}
}

func testLinkSecondCopy(t *testing.T, b CatalogBackend) {
	r := newRecorder()
	c := b.open(t, CatalogOptions{Reaper: r})
	data := []byte("one")
	first := c.link(t, "a", data)
	want := make(map[registry.Stored]bool)
	for _, repo := range []registry.Name{"a", "b", "c/d"} {
		second := c.copyOf(repo, data)
		got, err := c.Link(t.Context(), alice, repo, second)
		must(t, "Link", err)
		if got != first {
			t.Errorf("Link of a second copy: got %+v, want the first, %+v", got, first)
		}
		c.checkBlob(t, repo, first)
		want[second] = true
	}
	for s := range r.wait(t, len(want)) {
		if !want[s] {
			t.Errorf("%+v was removed, which is not a second copy", s)
		}
	}

	// Many at once: one stays.
	data = []byte("two")
	copies := make([]registry.Stored, racers)
	kept := make([]registry.Stored, racers)
	errs := race(func(i int) (err error) {
		copies[i] = c.copyOf("a", data)
		kept[i], err = c.Link(t.Context(), alice, []registry.Name{"a", "b"}[i%2], copies[i])
		return err
	})
	for i, err := range errs {
		must(t, "Link", err)
		if kept[i] != kept[0] {
			t.Fatalf("two copies are in use, %+v and %+v", kept[0], kept[i])
		}
	}
	c.checkBlob(t, "a", kept[0])
	c.checkBlob(t, "b", kept[0])
	gone := r.wait(t, racers-1)
	for _, s := range copies {
		if gone[s] == (s == kept[0]) {
			t.Errorf("copy %s: removed %t, kept %t", s.Locator, gone[s], s == kept[0])
		}
	}
}

func testLinkPools(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{Pools: []registry.Pool{"/a", "/b"}})
	data := []byte("one")
	// Each pool has a copy of its own.
	for repo, p := range map[registry.Name]registry.Pool{"a/x": "/a", "b": "/b", "c": ""} {
		want := c.copyOf(repo, data)
		if want.Pool != p {
			t.Fatalf("repository %s is in pool %q, want %q", repo, want.Pool, p)
		}
		got, err := c.Link(t.Context(), alice, repo, want)
		must(t, "Link", err)
		if got != want {
			t.Errorf("Link in pool %q: got %+v, want %+v", p, got, want)
		}
		c.checkBlob(t, repo, want)
		again, err := c.Link(t.Context(), alice, repo+"/more", c.copyOf(repo, data))
		must(t, "Link", err)
		if again != want {
			t.Errorf("Link of a second copy in pool %q: got %+v, want %+v", p, again, want)
		}
	}
}

func testUnlink(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := []byte("one")
	s := c.link(t, "a", data)
	c.link(t, "a", []byte("two")) // so that something is left
	if got := c.link(t, "b", data); got != s {
		t.Errorf("Link: got %+v, want %+v", got, s)
	}
	must(t, "Unlink", c.Unlink(t.Context(), alice, "a", s.Digest))
	_, err := c.Blob(t.Context(), alice, "a", s.Digest)
	wantErr(t, "Blob after Unlink", err, registry.ErrBlobUnknown)
	wantErr(t, "Unlink again", c.Unlink(t.Context(), alice, "a", s.Digest), registry.ErrBlobUnknown)
	wantErr(t, "Unlink in no repository", c.Unlink(t.Context(), alice, "c", s.Digest), registry.ErrBlobUnknown, registry.ErrNameUnknown)
	c.checkMissing(t, "a", registry.TypeManifest, imageOf(data), s.Digest)
	_, err = c.Mount(t.Context(), alice, "c", s.Digest, "a")
	wantErr(t, "Mount from where it was unlinked", err, registry.ErrBlobUnknown)
	c.checkBlob(t, "b", s) // others keep it

	c.link(t, "a", data) // it can come back
	must(t, "Unlink", c.Unlink(t.Context(), alice, "b", s.Digest))
	must(t, "Unlink of the last", c.Unlink(t.Context(), alice, "a", s.Digest))
	c.link(t, "a", data) // even after nobody knew it
	c.put(t, "a", registry.TypeManifest, imageOf(data))
}

func testUnlinkInUse(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config, layer := []byte("config"), []byte("layer")
	for _, repo := range []registry.Name{"a", "b"} {
		c.link(t, repo, config)
		c.link(t, repo, layer)
	}
	one := c.put(t, "a", registry.TypeManifest, imageOf(config, layer))
	two := c.put(t, "a", registry.TypeManifest, imageOf(config, layer, config))
	unlink := func(repo registry.Name, data []byte) error {
		return c.Unlink(t.Context(), alice, repo, sha256of(data))
	}
	wantErr(t, "Unlink of a config", unlink("a", config), registry.ErrInUse)
	wantErr(t, "Unlink of a layer", unlink("a", layer), registry.ErrInUse)
	must(t, "Unlink where no manifest needs it", unlink("b", layer))
	must(t, "DeleteManifest", c.deleteManifest(t, one))
	wantErr(t, "Unlink while another manifest needs it", unlink("a", layer), registry.ErrInUse)
	must(t, "DeleteManifest", c.deleteManifest(t, two))
	must(t, "Unlink when no manifest needs it", unlink("a", layer))
	must(t, "Unlink when no manifest needs it", unlink("a", config))
}
