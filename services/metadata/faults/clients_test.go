package faults

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/metadata"
)

var alice = registry.Actor{ID: "alice"}

// clients do what users do, and remember what they were told.
type clients struct {
	catalog registry.Catalog
	blobs   registry.Blobs
	// may is what each name may have by now: one value if it was acknowledged, two
	// after an operation that failed.
	may   map[string][]string
	maybe []effects    // of operations that failed
	later atomic.Int64 // nanoseconds by which time has gone ahead
	errs  []error
	acked int
}

// effects are the values of names after an operation. No value: it is gone.
type effects map[string]string

const gone = ""

// do runs an operation and records what it was told.
func (c *clients) do(e effects, run func(ctx context.Context) error) {
	err := run(context.Background())
	if err != nil {
		c.errs = append(c.errs, err)
		c.maybe = append(c.maybe, e)
	} else {
		c.acked++
	}
	for name, value := range e {
		was, known := c.may[name]
		switch {
		case err == nil:
			c.may[name] = []string{value}
		case !known:
			c.may[name] = []string{gone, value}
		default:
			c.may[name] = append(slices.Clone(was), value)
		}
	}
}

// store uploads content, which never fails.
func (c *clients) store(t *testing.T, text string) registry.Stored {
	t.Helper()
	u, err := c.blobs.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s, err := c.blobs.Commit(t.Context(), u, strings.NewReader(text), registry.SHA256.FromString(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (c *clients) link(t *testing.T, repo registry.Name, text string) registry.Stored {
	t.Helper()
	s := c.store(t, text)
	c.do(effects{blobName(repo, s.Digest): "linked"}, func(ctx context.Context) error {
		_, err := c.catalog.Link(ctx, alice, repo, s)
		return err
	})
	return s
}

func (c *clients) put(repo registry.Name, m registry.ManifestPut) {
	e := effects{manifestName(repo, m.Digest): "stored"}
	for _, tag := range m.Tags {
		e[tagName(repo, tag)] = string(m.Digest)
	}
	c.do(e, func(ctx context.Context) error {
		_, err := c.catalog.PutManifest(ctx, alice, repo, m)
		return err
	})
}

func blobName(repo registry.Name, d registry.Digest) string {
	return "blob " + string(repo) + " " + string(d)
}
func tagName(repo registry.Name, t registry.Tag) string {
	return "tag " + string(repo) + " " + string(t)
}
func manifestName(repo registry.Name, d registry.Digest) string {
	return "manifest " + string(repo) + " " + string(d)
}

// manifest returns an image, an artifact if there is a subject, or an index if
// there are children.
func manifest(config registry.Stored, subject *registry.ManifestPut, children []registry.ManifestPut, tags ...registry.Tag) registry.ManifestPut {
	describe := func(m registry.ManifestPut) registry.Descriptor {
		return registry.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}
	}
	m := map[string]any{"schemaVersion": 2, "mediaType": registry.TypeManifest}
	if children != nil {
		m["mediaType"] = registry.TypeIndex
		var list []registry.Descriptor
		for _, c := range children {
			list = append(list, describe(c))
		}
		m["manifests"] = list
	} else {
		m["config"] = registry.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: config.Digest, Size: config.Size}
		m["layers"] = []registry.Descriptor{}
	}
	if subject != nil {
		m["subject"] = describe(*subject)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: m["mediaType"].(string), Bytes: b, Tags: tags}
}

// work is every kind of change of the catalog.
func (c *clients) work(t *testing.T) {
	t.Helper()
	one, two := c.link(t, "a", "one"), c.link(t, "a", "two")
	m1, m2 := manifest(one, nil, nil, "latest", "1"), manifest(two, nil, nil, "latest", "2")
	c.put("a", m1)
	c.put("a", m2) // moves a tag
	c.do(effects{blobName("b/c", one.Digest): "linked"}, func(ctx context.Context) error {
		_, err := c.catalog.Mount(ctx, alice, "b/c", one.Digest, "a")
		return err
	})
	m3 := m1
	m3.Tags = []registry.Tag{"mounted"}
	c.put("b/c", m3)
	c.put("a", manifest(one, nil, []registry.ManifestPut{m1, m2}, "index"))
	signature := manifest(one, &m2, nil)
	c.put("a", signature)
	c.link(t, "a", "one") // a second copy, which becomes garbage
	c.do(effects{tagName("a", "1"): gone}, func(ctx context.Context) error {
		return c.catalog.DeleteTag(ctx, alice, "a", "1", registry.Condition{})
	})
	c.do(effects{manifestName("b/c", m3.Digest): gone, tagName("b/c", "mounted"): gone}, func(ctx context.Context) error {
		return c.catalog.DeleteManifest(ctx, alice, "b/c", m3.Digest)
	})
	c.do(effects{blobName("b/c", one.Digest): gone}, func(ctx context.Context) error {
		return c.catalog.Unlink(ctx, alice, "b/c", one.Digest)
	})
	c.undo(t)
	c.retain(t)
	c.scrub(t)
	c.copyOut(t)
	c.collect()
}

// retain applies the retention policies to a repository with two tags, of which one
// stays. The catalog may have done so by itself before.
func (c *clients) retain(t *testing.T) {
	t.Helper()
	m := manifest(c.link(t, "ret", "four"), nil, nil, "keep", "old")
	c.put("ret", m)
	old := tagName("ret", "old")
	c.may[old] = append(slices.Clone(c.may[old]), gone)
	removed := effects{old: gone}
	c.do(removed, func(ctx context.Context) error {
		report, err := c.catalog.ApplyRetention(ctx, alice, "ret")
		if report.Kept == 0 { // of no tags: the push had failed, so far as could be seen
			delete(removed, old)
		}
		return err
	})
}

// scrub asks for everything to be looked at, and waits until that has begun to be
// recorded, unless it can't be.
func (c *clients) scrub(t *testing.T) {
	t.Helper()
	asked := false
	c.do(nil, func(ctx context.Context) error {
		err := c.catalog.StartScrub(ctx, alice)
		asked = err == nil
		return err
	})
	for range 20 {
		s, err := c.catalog.ScrubStatus(t.Context(), alice)
		if !asked || err != nil || s.Blobs > 0 && s.Manifests > 0 {
			return
		}
		time.Sleep(time.Millisecond) // another goroutine does it
	}
}

// copyOut makes a copy of the catalog, as a backup does.
func (c *clients) copyOut(t *testing.T) {
	t.Helper()
	c.do(nil, func(ctx context.Context) error {
		return c.catalog.Export(ctx, func([]byte) error { return nil })
	})
}

// undo deletes and restores.
func (c *clients) undo(t *testing.T) {
	t.Helper()
	three := c.link(t, "undone", "three")
	m := manifest(three, nil, nil, "latest")
	c.put("undone", m)
	all := effects{blobName("undone", three.Digest): "linked", manifestName("undone", m.Digest): "stored", tagName("undone", "latest"): string(m.Digest)}
	none := effects{blobName("undone", three.Digest): gone, manifestName("undone", m.Digest): gone, tagName("undone", "latest"): gone}
	c.do(none, func(ctx context.Context) error { return c.catalog.DeleteRepository(ctx, alice, "undone") })
	c.do(all, func(ctx context.Context) error {
		return c.catalog.Undelete(ctx, alice, "undone", registry.Reference{})
	})
	c.do(effects{manifestName("undone", m.Digest): gone, tagName("undone", "latest"): gone}, func(ctx context.Context) error {
		return c.catalog.DeleteManifest(ctx, alice, "undone", m.Digest)
	})
	c.do(effects{manifestName("undone", m.Digest): "stored", tagName("undone", "latest"): string(m.Digest)}, func(ctx context.Context) error {
		return c.catalog.Undelete(ctx, alice, "undone", registry.Reference{Digest: m.Digest})
	})
	c.do(none, func(ctx context.Context) error { return c.catalog.DeleteRepository(ctx, alice, "undone") })
}

// collect lets the time pass after which what nothing needs goes, and collects.
func (c *clients) collect() {
	c.later.Add(int64(48 * time.Hour))
	// What has no tag may be gone from now on: whether something that failed needs
	// it nobody was told. What a tag needs fsck looks at.
	for name := range c.may {
		if !strings.HasPrefix(name, "tag ") {
			c.may[name] = append(slices.Clone(c.may[name]), gone)
		}
	}
	for range 6 {
		c.do(nil, func(ctx context.Context) error {
			_, err := c.catalog.Collect(ctx, alice)
			return err
		})
		c.later.Add(int64(2 * time.Minute)) // the fence
	}
}

// now is the time of the catalog.
func (c *clients) now() time.Time { return time.Now().Add(time.Duration(c.later.Load())) }

// value returns what a name has.
func (c *clients) value(ctx context.Context, name string) (string, error) {
	part := strings.Fields(name)
	repo := registry.Name(part[1])
	var err error
	value := ""
	switch part[0] {
	case "blob":
		_, err = c.catalog.Blob(ctx, alice, repo, registry.Digest(part[2]))
		value = "linked"
	case "manifest":
		var m registry.Manifest
		m, err = c.catalog.Manifest(ctx, alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: registry.Digest(part[2])}})
		if value = "stored"; err == nil && registry.SHA256.FromBytes(m.Bytes) != registry.Digest(part[2]) {
			value = "damaged"
		}
	case "tag":
		var m registry.Manifest
		m, err = c.catalog.Manifest(ctx, alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(part[2])}})
		value = string(m.Digest)
	}
	for _, missing := range []error{registry.ErrNameUnknown, registry.ErrManifestUnknown, registry.ErrBlobUnknown} {
		if errors.Is(err, missing) {
			return gone, nil
		}
	}
	return value, err
}

// check compares what the catalog shows with what clients were told (I1, I4, I6),
// and lets fsck look at the rest.
func (c *clients) check(t *testing.T, catalog *metadata.Catalog) {
	t.Helper()
	seen := &clients{catalog: catalog}
	values := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(c.may)) {
		got, err := seen.value(t.Context(), name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		values[name] = got
		if !slices.Contains(c.may[name], got) {
			t.Errorf("%s is %q; clients were told %q", name, got, c.may[name])
		}
	}
	for _, e := range c.maybe {
		done := 0
		for name, value := range e {
			if values[name] == value {
				done++
			}
		}
		if done != 0 && done != len(e) && !c.overwritten(e) {
			t.Errorf("an operation that failed has happened in part: %v, and now %v", e, values)
		}
	}
	for f, err := range catalog.Fsck(t.Context(), c.blobs.(metadata.FsckBlobs), false) {
		t.Error("fsck:", f, err)
	}
}

// overwritten reports whether other operations have changed the same names: then
// nobody can tell from the values what became of e.
func (c *clients) overwritten(e effects) bool {
	for name := range e {
		if n := len(c.may[name]); n != 2 {
			return true
		}
	}
	return false
}

func (c *clients) String() string {
	return fmt.Sprintf("%d operations acknowledged, %d failed: %v", c.acked, len(c.errs), errors.Join(c.errs...))
}
