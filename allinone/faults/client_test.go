package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
	disks "github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/sqlite"
)

var (
	alice = registry.Actor{ID: "alice"}
	quiet = slog.New(slog.DiscardHandler)
)

// store is a whole store on a directory, by the drivers of the programs.
type store struct {
	blobs   *blobstore.Store
	catalog *metadata.Catalog
	close   func() error
}

func openStore(ctx context.Context, dir string, collects bool, now func() time.Time, fatal func(error)) (*store, error) {
	driver, err := disks.Open(dir, disks.Options{Durable: true})
	if err != nil {
		return nil, err
	}
	blobs, err := blobstore.Open(ctx, map[registry.Pool]blobstore.Driver{"": driver}, blobstore.Options{}, quiet)
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	db, err := sqlite.Open(ctx, dir, fatal)
	if err != nil {
		return nil, errors.Join(err, blobs.Close())
	}
	var reaper registry.Reaper
	if collects {
		reaper = blobs
	}
	catalog, err := metadata.Open(ctx, db, reaper, metadata.Options{Now: now}, quiet)
	if err != nil {
		return nil, errors.Join(err, db.Close(), blobs.Close())
	}
	return &store{blobs, catalog, func() error { return errors.Join(catalog.Close(), db.Close(), blobs.Close()) }}, nil
}

// client does what users do, and writes what it asks for and what it was told: lines
// "ask NAME VALUE" before, "told NAME VALUE" after an answer, and "over" when what
// has no tag may go.
type client struct {
	*store
	out   io.Writer
	later atomic.Int64 // nanoseconds by which time has gone ahead
}

// childMain is what the process does that runs on a disk that may fail. It ends when
// its work is done, whatever became of it.
func childMain(dir string) {
	c := &client{out: os.Stdout}
	now := func() time.Time { return time.Now().Add(time.Duration(c.later.Load())) }
	var err error
	c.store, err = openStore(context.Background(), dir, true, now, func(error) { os.Exit(4) })
	if err != nil {
		os.Exit(3)
	}
	c.work(context.Background())
	_ = c.close() // which may fail, as all else
}

// do runs an operation that gives names values; "-" is: it is gone.
func (c *client) do(values map[string]string, run func() error) {
	for name, v := range values {
		fmt.Fprintln(c.out, "ask", name, v)
	}
	if run() != nil {
		return
	}
	for name, v := range values {
		fmt.Fprintln(c.out, "told", name, v)
	}
}

const gone = "-"

func blobName(repo registry.Name, d registry.Digest) string {
	return fmt.Sprintf("blob/%s/%s", repo, d)
}
func tagName(repo registry.Name, t registry.Tag) string { return fmt.Sprintf("tag/%s/%s", repo, t) }
func manifestName(repo registry.Name, d registry.Digest) string {
	return fmt.Sprintf("manifest/%s/%s", repo, d)
}

// push uploads content, in the given parts, and makes it known.
func (c *client) push(ctx context.Context, repo registry.Name, parts ...string) registry.Stored {
	text := strings.Join(parts, "")
	want := registry.Stored{Digest: registry.SHA256.FromString(text), Size: int64(len(text))}
	c.do(map[string]string{blobName(repo, want.Digest): "linked"}, func() error {
		u, err := c.blobs.Start(ctx, "", registry.SHA256)
		for _, p := range parts[:len(parts)-1] {
			if err == nil {
				u, err = c.blobs.Append(ctx, u, strings.NewReader(p))
			}
		}
		if err != nil {
			return err
		}
		s, err := c.blobs.Commit(ctx, u, strings.NewReader(parts[len(parts)-1]), want.Digest)
		if err == nil {
			_, err = c.catalog.Link(ctx, alice, repo, s)
		}
		return err
	})
	return want
}

func (c *client) put(ctx context.Context, repo registry.Name, m registry.ManifestPut, tags ...registry.Tag) {
	m.Tags = tags
	values := map[string]string{manifestName(repo, m.Digest): "stored"}
	for _, t := range tags {
		values[tagName(repo, t)] = string(m.Digest)
	}
	c.do(values, func() error { _, err := c.catalog.PutManifest(ctx, alice, repo, m); return err })
}

func manifest(mediaType string, m map[string]any) registry.ManifestPut {
	m["schemaVersion"], m["mediaType"] = 2, mediaType
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // of strings and numbers
	}
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: mediaType, Bytes: b}
}

func image(config, layer registry.Stored) registry.ManifestPut {
	of := func(mediaType string, s registry.Stored) registry.Descriptor {
		return registry.Descriptor{MediaType: mediaType, Digest: s.Digest, Size: s.Size}
	}
	return manifest(registry.TypeManifest, map[string]any{
		"config": of("application/vnd.oci.image.config.v1+json", config),
		"layers": []registry.Descriptor{of("application/vnd.oci.image.layer.v1.tar", layer)},
	})
}

// work is a push, a push in chunks, a mount, an index, a move of a tag, deletes, and
// a cycle of garbage collection.
func (c *client) work(ctx context.Context) {
	config := c.push(ctx, "a", "{}")
	one := c.push(ctx, "a", strings.Repeat("one ", 1000))
	two := c.push(ctx, "a", strings.Repeat("two ", 500), strings.Repeat("more ", 700), "end")
	m1, m2 := image(config, one), image(config, two)
	c.put(ctx, "a", m1, "latest", "v1")
	c.put(ctx, "a", m2, "latest")
	for _, b := range []registry.Stored{config, one} {
		c.do(map[string]string{blobName("b", b.Digest): "linked"}, func() error {
			_, err := c.catalog.Mount(ctx, alice, "b", b.Digest, "a")
			return err
		})
	}
	c.put(ctx, "b", m1, "mounted")
	c.put(ctx, "a", manifest(registry.TypeIndex, map[string]any{"manifests": []registry.Descriptor{
		{MediaType: m1.MediaType, Digest: m1.Digest, Size: int64(len(m1.Bytes))},
	}}), "index")
	loose := c.push(ctx, "a", "loose")
	c.push(ctx, "a", "{}") // a second copy, which becomes garbage
	c.do(map[string]string{tagName("a", "v1"): gone}, func() error {
		return c.catalog.DeleteTag(ctx, alice, "a", "v1", registry.Condition{})
	})
	c.do(map[string]string{manifestName("b", m1.Digest): gone, tagName("b", "mounted"): gone}, func() error {
		return c.catalog.DeleteManifest(ctx, alice, "b", m1.Digest)
	})
	c.do(map[string]string{blobName("a", loose.Digest): gone}, func() error {
		return c.catalog.Unlink(ctx, alice, "a", loose.Digest)
	})
	fmt.Fprintln(c.out, "over")
	c.later.Add(int64(48 * time.Hour))
	for range 5 {
		c.do(nil, func() error { _, err := c.catalog.Collect(ctx, alice); return err })
		c.later.Add(int64(2 * time.Minute)) // the fence
	}
	for range 50 { // another goroutine removes the bytes
		all, err := c.blobs.Copies(ctx, "", nil, 10)
		if err != nil || len(all) <= 3 {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// told is what clients know: the values that each name may have.
type told map[string][]string

// parse reads what a client wrote.
func parse(t *testing.T, out []byte) told {
	t.Helper()
	may, over := told{}, false
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		switch {
		case len(f) == 1 && f[0] == "over":
			over = true
		case len(f) != 3:
			t.Fatalf("a client wrote %q", line)
		case f[0] == "told":
			may[f[1]] = []string{f[2]}
		case may[f[1]] == nil:
			may[f[1]] = []string{gone, f[2]}
		default:
			may[f[1]] = append(slices.Clone(may[f[1]]), f[2])
		}
	}
	for name := range may {
		if over && !strings.HasPrefix(name, "tag/") {
			may[name] = append(may[name], gone)
		}
	}
	return may
}

// check opens what is left in a directory and compares it with what clients know.
func (m told) check(t *testing.T, dir string) {
	t.Helper()
	ctx := t.Context()
	s, err := openStore(ctx, dir, false, nil, func(err error) { t.Errorf("fatal: %v", err) })
	if err != nil {
		t.Errorf("opening what is left: %v", err)
		return
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	for name, may := range m {
		got, err := s.value(ctx, name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !slices.Contains(may, got) {
			t.Errorf("%s is %s, clients know %v", name, got, may)
		}
	}
	for f, err := range s.catalog.Fsck(ctx, s.blobs, true) {
		t.Error("fsck:", f, err)
	}
}

// value returns what a name has.
func (s *store) value(ctx context.Context, name string) (string, error) {
	part := strings.SplitN(name, "/", 3)
	repo, value := registry.Name(part[1]), "linked"
	var err error
	switch part[0] {
	case "blob":
		var b registry.Blob
		if b, err = s.catalog.Blob(ctx, alice, repo, registry.Digest(part[2])); err == nil {
			err = s.whole(ctx, b)
		}
	case "manifest":
		value = "stored"
		_, err = s.catalog.Manifest(ctx, alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: registry.Digest(part[2])}})
	case "tag":
		var m registry.Manifest
		m, err = s.catalog.Manifest(ctx, alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: registry.Tag(part[2])}})
		value = string(m.Digest)
	}
	for _, missing := range []error{registry.ErrNameUnknown, registry.ErrManifestUnknown, registry.ErrBlobUnknown} {
		if errors.Is(err, missing) {
			return gone, nil
		}
	}
	return value, err
}

// whole reads a blob and compares it with its digest.
func (s *store) whole(ctx context.Context, b registry.Blob) error {
	content, err := s.blobs.Open(ctx, b.Stored, registry.Whole)
	if err != nil {
		return fmt.Errorf("opening the copy %s: %w", b.Locator, err)
	}
	defer content.Close()
	var buf bytes.Buffer
	if _, err := content.WriteTo(&buf); err != nil {
		return err
	}
	if registry.SHA256.FromBytes(buf.Bytes()) != b.Digest {
		return errors.New("other bytes")
	}
	return nil
}
