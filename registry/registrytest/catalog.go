package registrytest

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
)

// CatalogOptions are what a test asks of a catalog.
type CatalogOptions struct {
	// AllowSparse accepts manifests whose content is missing.
	AllowSparse bool
	// AllowWrongSizes accepts manifests that tell wrong sizes of their content.
	AllowWrongSizes bool
	// Pools the blobs may be in, besides "".
	Pools []registry.Pool
	// Access says who may do what. nil: everybody may do everything.
	Access *access.Policy
	// Reaper is told to remove second copies, and soon: there is no grace time
	// for a copy that never was in use. nil if the test does not care.
	Reaper registry.Reaper
}

// CatalogBackend is an implementation of [registry.Catalog] to test.
type CatalogBackend struct {
	// New returns an empty catalog. It cleans up by t.Cleanup.
	New func(t *testing.T, o CatalogOptions) registry.Catalog
	// Reopen stops c as a crash would and opens the same data again. nil if the
	// backend can't.
	Reopen func(t *testing.T, c registry.Catalog) registry.Catalog
	// Cannot names the tests the backend can't pass. They are skipped.
	Cannot []string
}

// Catalog tests that b keeps the contract of [registry.Catalog]. It must not
// run in parallel with other tests: at its end it looks for goroutines left
// behind.
func Catalog(t *testing.T, b CatalogBackend) {
	leaked := watchGoroutines()
	tests := slices.Concat(repositoryTests(), tagTests(), manifestTests(), contentTests(),
		conditionTests(), deleteTests(), referrerTests(), linkTests(), mountTests(), trashTests(), raceTests(), reopenTests(), retentionTests(), scrubTests(), limitTests(), identityTests(), accessTests(), cachedTests(), auditTests(), announcementTests(), trustedTests(), searchTests())
	runAll(t, b.Cannot, tests, func(*testing.T) CatalogBackend { return b })
	leaked(t)
}

// alice may do everything.
var alice = registry.Actor{ID: "alice", Groups: []string{"dockers"}, Claims: map[string]string{"iss": "test"}}

// catalog is a catalog under test.
type catalog struct {
	registry.Catalog
	backend CatalogBackend
	options CatalogOptions
}

func (b CatalogBackend) open(t *testing.T, o CatalogOptions) *catalog {
	t.Helper()
	return &catalog{Catalog: b.New(t, o), backend: b, options: o}
}

// copyOf returns a stored copy of data in repo's pool, new for each call. A
// catalog never reads it.
func (c *catalog) copyOf(repo registry.Name, data []byte) registry.Stored {
	return registry.Stored{
		Digest:  sha256of(data),
		Size:    int64(len(data)),
		Pool:    registry.PoolOf(repo, c.options.Pools),
		Locator: registry.Locator(registry.NewUploadID(time.Now())),
	}
}

// link makes data known in repo and checks that it can be found then.
func (c *catalog) link(t *testing.T, repo registry.Name, data []byte) registry.Stored {
	t.Helper()
	s, err := c.Link(t.Context(), alice, repo, c.copyOf(repo, data))
	must(t, "Link", err)
	c.checkBlob(t, repo, s)
	return s
}

// checkBlob checks that repo knows s.
func (c *catalog) checkBlob(t *testing.T, repo registry.Name, s registry.Stored) {
	t.Helper()
	got, err := c.Blob(t.Context(), alice, repo, s.Digest)
	must(t, "Blob", err)
	if got.Stored != s || got.Inline != nil {
		t.Errorf("Blob: got %+v, want %+v", got, s)
	}
}

// put stores a manifest, checks the answer, and returns its digest.
func (c *catalog) put(t *testing.T, repo registry.Name, mediaType string, data []byte, tags ...registry.Tag) registry.Digest {
	t.Helper()
	d := sha256of(data)
	got, err := c.PutManifest(t.Context(), alice, repo, registry.ManifestPut{
		Digest: d, MediaType: mediaType, Bytes: data, Tags: tags,
	})
	must(t, "PutManifest", err)
	want, err := registry.ParseManifest(mediaType, data)
	must(t, "ParseManifest", err)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("PutManifest: -want +got\n%s", diff)
	}
	return d
}

// image pushes an image of its own for each seed: a config, a layer, and a
// manifest with the tags.
func (c *catalog) image(t *testing.T, repo registry.Name, seed string, tags ...registry.Tag) registry.Digest {
	t.Helper()
	return c.put(t, repo, registry.TypeManifest, c.imageBytes(t, repo, seed), tags...)
}

// imageBytes links the content of an image and returns its manifest.
func (c *catalog) imageBytes(t *testing.T, repo registry.Name, seed string) []byte {
	t.Helper()
	config, layer := []byte("config of "+seed), []byte("layer of "+seed)
	c.link(t, repo, config)
	c.link(t, repo, layer)
	return imageOf(config, layer)
}

// get reads a manifest.
func (c *catalog) get(t *testing.T, repo registry.Name, ref registry.Reference) registry.Manifest {
	t.Helper()
	m, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: ref})
	must(t, "Manifest "+ref.String(), err)
	return m
}

// checkTag checks what a tag of repo points to, "" if there must be none.
func (c *catalog) checkTag(t *testing.T, repo registry.Name, tag registry.Tag, want registry.Digest) {
	t.Helper()
	m, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
	if want == "" {
		wantErr(t, "Manifest of a tag that is not there", err, registry.ErrManifestUnknown, registry.ErrNameUnknown)
		return
	}
	must(t, "Manifest", err)
	if m.Digest != want {
		t.Errorf("tag %s points to %s, want %s", tag, m.Digest, want)
	}
}

// checkManifest checks that repo has a manifest, byte for byte.
func (c *catalog) checkManifest(t *testing.T, repo registry.Name, ref registry.Reference, mediaType string, data []byte) {
	t.Helper()
	got := c.get(t, repo, ref)
	if ref.Digest == "" {
		ref.Digest = sha256of(data)
	}
	want := registry.Manifest{Digest: ref.Digest, MediaType: mediaType, Size: int64(len(data)), Bytes: data}
	if !bytes.Equal(got.Bytes, want.Bytes) || got.Digest != want.Digest || got.MediaType != want.MediaType || got.Size != want.Size {
		t.Errorf("Manifest: got %s, %s, %d bytes; want %s, %s, %d", got.Digest, got.MediaType, got.Size, want.Digest, want.MediaType, want.Size)
	}
}

// checkNoManifest checks that repo has no manifest d.
func (c *catalog) checkNoManifest(t *testing.T, repo registry.Name, d registry.Digest) {
	t.Helper()
	_, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}})
	wantErr(t, "Manifest that is not there", err, registry.ErrManifestUnknown, registry.ErrNameUnknown)
}

// pages returns a whole list, read in pages of limit, and checks its order.
func pages[K ~string, V any](t *testing.T, limit int, key func(V) K, list func(registry.Page[K]) (registry.List[V], error)) []V {
	t.Helper()
	var all []V
	p := registry.Page[K]{Limit: limit}
	for {
		got, err := list(p)
		must(t, "list", err)
		if len(got.Items) > limit {
			t.Fatalf("a page of %d has %d entries", limit, len(got.Items))
		}
		for _, v := range got.Items {
			if key(v) <= p.After && p.After != "" {
				t.Fatalf("a list has %s after %s", key(v), p.After)
			}
			p.After = key(v)
		}
		all = append(all, got.Items...)
		if !got.More {
			return all
		}
		if len(got.Items) == 0 {
			t.Fatal("a page is empty, and there are more")
		}
	}
}

// missing returns the digests in the detail of an error, in order. Over the
// wire they come as generic JSON.
func missing(t *testing.T, err error) []registry.Digest {
	t.Helper()
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		t.Fatalf("%v is no registry.Error", err)
	}
	b, err := json.Marshal(e.Detail)
	must(t, "writing the detail", err)
	var digests []registry.Digest
	if err := json.Unmarshal(b, &digests); err != nil {
		t.Fatalf("the detail is %s, want an array of digests", b)
	}
	slices.Sort(digests)
	return digests
}
