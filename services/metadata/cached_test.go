package metadata_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/glob"
	"github.com/berth-registry/berth/services/metadata"
)

// cacheStore is a store that keeps content of an upstream.
type cacheStore struct {
	*store
	now  *handClock
	full map[registry.Pool]int64
}

// layerSize is how large the layer of each image is; all else is small.
const layerSize = 1000

func openCache(t *testing.T, at newPlace, o metadata.Options) *cacheStore {
	t.Helper()
	now := newClock()
	o.Now = now.now
	return &cacheStore{openStore(t, at(t), o, newBin(0)), now, make(map[registry.Pool]int64)}
}

// fetch stores an image of an upstream with one layer, and lets an hour pass.
func (s *cacheStore) fetch(t *testing.T, repo registry.Name, name string, cost time.Duration, tags ...registry.Tag) registry.Digest {
	t.Helper()
	layer := []byte(strings.Repeat(name, layerSize)[:layerSize])
	for _, data := range [][]byte{layer, []byte("{}")} {
		_, err := s.LinkCached(t.Context(), alice, repo, registry.Stored{
			Digest: registry.SHA256.FromBytes(data), Size: int64(len(data)), Locator: registry.Locator(registry.NewUploadID(s.now.now())),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	m := manifestOf(layer)
	m.Tags = tags
	if _, err := s.PutCached(t.Context(), alice, repo, m, registry.Origin{Upstream: "up", Cost: cost.Microseconds()}); err != nil {
		t.Fatal(err)
	}
	s.now.move(time.Hour)
	return m.Digest
}

// manifestOf is an image with an empty config and a layer.
func manifestOf(layer []byte) registry.ManifestPut {
	data := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		registry.TypeManifest, registry.SHA256.FromString("{}"), registry.SHA256.FromBytes(layer), len(layer))
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(data), MediaType: registry.TypeManifest, Bytes: data}
}

// collect lets time pass, and waits until nothing is left to collect and remove.
func (s *cacheStore) collect(t *testing.T) {
	t.Helper()
	s.now.move(2 * time.Hour)
	if _, err := metadata.CollectAll(t.Context(), s.Catalog, false); err != nil {
		t.Fatal(err)
	}
}

func (s *cacheStore) trim(t *testing.T) {
	t.Helper()
	if err := s.TrimCache(t.Context(), s.full); err != nil {
		t.Fatal(err)
	}
}

// left returns which of the manifests are still there.
func (s *cacheStore) left(t *testing.T, repo registry.Name, all map[string]registry.Digest) string {
	t.Helper()
	var names []string
	for name, d := range all {
		_, err := s.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Digest: d}, NoBytes: true})
		if err == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, "")
}

// What was not pulled for the longest time goes first, what costs more later, what
// is pinned never; and no more goes than has to.
func TestCacheEvictsLeastRecentlyUsed(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: 5 * layerSize, Pins: []string{"hub:p*"}}})
		all := map[string]registry.Digest{
			"a": s.fetch(t, "hub", "a", 0, "a"),
			"b": s.fetch(t, "hub", "b", 0), // by digest only
			"c": s.fetch(t, "hub", "c", 100*time.Hour, "c"),
			"d": s.fetch(t, "hub", "d", 0, "pinned"),
		}
		s.trim(t)
		if got := s.left(t, "hub", all); got != "abcd" {
			t.Fatalf("left within the limit: %q", got)
		}
		all["e"], all["f"] = s.fetch(t, "hub", "e", 0, "e"), s.fetch(t, "hub", "f", 0, "f")
		err := s.CountPulls(t.Context(), []registry.Pull{{Repository: "hub", Digest: all["a"], Tag: "a", At: s.now.now().UnixMicro(), Count: 1}})
		if err != nil {
			t.Fatal(err)
		}
		s.trim(t) // 6 are too many, 4 are 4,002 bytes and that is below nine tenths
		if got := s.left(t, "hub", all); got != "acdf" {
			t.Errorf("left: %q, want acdf: b and e were not used for longest", got)
		}
		u, err := s.CacheUsage(t.Context(), alice)
		if err != nil {
			t.Fatal(err)
		}
		want := registry.CacheUsage{Bytes: 4*layerSize + 2, Manifests: 4, Limit: 5 * layerSize, Evicted: 2, EvictedBytes: 2 * layerSize}
		if len(u) != 1 || u[0] != want {
			t.Errorf("usage: %+v, want %+v", u, want)
		}
		s.now.move(time.Hour)
		s.trim(t)
		if got := s.left(t, "hub", all); got != "acdf" {
			t.Errorf("left later: %q", got)
		}
	})
}

// What was fetched or pulled a moment ago is still in use.
func TestCacheKeepsWhatIsNew(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: 1}})
		d := s.fetch(t, "hub", "a", 0, "a")
		s.now.move(-time.Hour)
		s.trim(t)
		if got := s.left(t, "hub", map[string]registry.Digest{"a": d}); got != "a" {
			t.Error("an image that was fetched just now is gone")
		}
		s.now.move(2 * time.Minute)
		s.trim(t)
		if got := s.left(t, "hub", map[string]registry.Digest{"a": d}); got != "" {
			t.Error("an image that is too much is not gone")
		}
	})
}

// Content that somebody pushed is neither counted nor evicted, in whichever
// repository; the bytes of what was evicted go once their time is over.
func TestCacheKeepsWhatWasPushed(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: 1}, GC: metadata.GC{Undo: time.Hour}})
		all := map[string]registry.Digest{"a": s.fetch(t, "hub", "a", 0, "a"), "b": s.fetch(t, "hub", "b", 0, "b")}
		// A client mounts the layer of b, and pushes an image of it elsewhere.
		layer := []byte(strings.Repeat("b", layerSize))
		for _, data := range [][]byte{layer, []byte("{}")} {
			if _, err := s.Mount(t.Context(), alice, "mine", registry.SHA256.FromBytes(data), "hub"); err != nil {
				t.Fatal(err)
			}
		}
		m := manifestOf(layer)
		m.Tags = []registry.Tag{"v1"}
		if _, err := s.PutManifest(t.Context(), alice, "mine", m); err != nil {
			t.Fatal(err)
		}
		u, err := s.CacheUsage(t.Context(), alice)
		if err != nil || u[0].Bytes != layerSize {
			t.Errorf("usage: %+v, %v, want the layer of a", u, err)
		}
		s.trim(t)
		if got := s.left(t, "hub", all); got != "b" {
			t.Errorf("left: %q, want b: what nobody counts need not go", got)
		}
		if _, err := s.EvictCached(t.Context(), alice, "hub", registry.Reference{}); err != nil {
			t.Fatal(err)
		}
		for range 8 { // until the links, the copies and their fences are over
			s.collect(t)
		}
		var blobs int
		if err := s.db.QueryRow(t.Context(), "SELECT COUNT(*) FROM blobs").Scan(&blobs); err != nil || blobs != 2 {
			t.Errorf("%d blobs are left (%v), want the layer of b and the config", blobs, err)
		}
		for _, data := range [][]byte{layer, []byte("{}")} {
			if _, err := s.Blob(t.Context(), alice, "mine", registry.SHA256.FromBytes(data)); err != nil {
				t.Errorf("a blob that was pushed is gone: %v", err)
			}
		}
	})
}

// TestP95SharedBlob: a blob stays, whatever was evicted, as long as a cached manifest
// needs it: of the same repository or of another.
func TestP95SharedBlob(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{GC: metadata.GC{Undo: time.Hour}})
		ctx := t.Context()
		layer := []byte(strings.Repeat("a", layerSize))
		first := s.fetch(t, "hub", "a", 0, "v1")
		s.fetch(t, "quay", "a", 0, "v1") // the same image, another repository
		again := manifestOf(layer)       // another image over the same layer
		again.Bytes = append(again.Bytes, ' ')
		again.Digest, again.Tags = registry.SHA256.FromBytes(again.Bytes), []registry.Tag{"v2"}
		if _, err := s.PutCached(ctx, alice, "hub", again, registry.Origin{Upstream: "up"}); err != nil {
			t.Fatal(err)
		}
		gone := func(repo registry.Name, ref registry.Reference) {
			t.Helper()
			if done, err := s.EvictCached(ctx, alice, repo, ref); err != nil || done.Manifests == 0 {
				t.Fatalf("%+v, %v", done, err)
			}
			for range 8 { // until the links, the copies and their fences are over
				s.collect(t)
			}
		}
		has := func(what string, repo registry.Name, want bool) {
			t.Helper()
			for _, data := range [][]byte{layer, []byte("{}")} {
				if _, err := s.Blob(ctx, alice, repo, registry.SHA256.FromBytes(data)); (err == nil) != want {
					t.Errorf("%s: a blob of %s: %v, wanted %v", what, repo, err, want)
				}
			}
		}
		gone("hub", registry.Reference{Digest: first})
		has("one of two images is evicted", "hub", true)
		gone("hub", registry.Reference{Tag: "v2"})
		has("both are", "hub", false)
		has("both are", "quay", true)
		gone("quay", registry.Reference{})
		has("all are", "quay", false)
	})
}

// TestCacheCountsWhatIsMountedForAMirror: cached content that a second mirrored
// repository needs stays cached, and what a client mounts and pushes does not.
func TestCacheCountsWhatIsMountedForAMirror(t *testing.T) { onEach(t, testCacheMounted) }

func testCacheMounted(t *testing.T, at newPlace) {
	s := openCache(t, at, metadata.Options{})
	ctx := t.Context()
	s.fetch(t, "hub", "x", 0, "v1")
	layer := []byte(strings.Repeat("x", layerSize))
	cached := func(what string, want int64) {
		t.Helper()
		all, err := s.CacheUsage(ctx, alice)
		if err != nil || all[0].Bytes != want {
			t.Errorf("%s: %+v, %v; want %d bytes", what, all, err, want)
		}
	}
	cached("fetched", layerSize+2)
	mount := func(a registry.Actor, repo registry.Name) registry.ManifestPut {
		t.Helper()
		for _, data := range [][]byte{layer, []byte("{}")} {
			if _, err := s.Mount(ctx, a, repo, registry.SHA256.FromBytes(data), ""); err != nil {
				t.Fatal(err)
			}
		}
		m := manifestOf(layer)
		m.Tags = []registry.Tag{"v1"}
		return m
	}
	mirror := registry.Actor{ID: "berth-sync", System: true}
	if _, err := s.PutCached(ctx, mirror, "hub2", mount(mirror, "hub2"), registry.Origin{Upstream: "up"}); err != nil {
		t.Fatal(err)
	}
	cached("mounted for a mirror", layerSize+2)
	root := registry.Actor{ID: "root", System: true}
	if _, err := s.PutManifest(ctx, root, "mine", mount(root, "mine")); err != nil {
		t.Fatal(err)
	}
	cached("pushed", 0)
}

// What was only pulled by its digest has no tag, and stays until it is too much; if
// nothing limits the cache the policies for untagged manifests decide.
func TestCacheOfDigests(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		for limit, want := range map[int64]string{100 * layerSize: "a", 0: ""} {
			s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: limit}, GC: metadata.GC{Undo: time.Hour}})
			all := map[string]registry.Digest{"a": s.fetch(t, "hub", "a", 0)}
			for range 8 {
				s.collect(t)
			}
			if got := s.left(t, "hub", all); got != want {
				t.Errorf("limit %d: %q is left, want %q", limit, got, want)
			}
		}
	})
}

// Scarce storage evicts cached content, all of it when it is at its scarcest.
func TestCacheUnderPressure(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{})
		all := make(map[string]registry.Digest)
		for _, name := range []string{"a", "b", "c", "d"} {
			all[name] = s.fetch(t, "hub", name, 0, registry.Tag(name))
		}
		for _, c := range []struct {
			pressure float64
			want     string
		}{{0, "abcd"}, {0.5, "cd"}, {0.5, "cd"}, {0.9, ""}} {
			s.SetPressure(c.pressure)
			s.trim(t)
			if got := s.left(t, "hub", all); got != c.want {
				t.Errorf("pressure %v: %q is left, want %q", c.pressure, got, c.want)
			}
		}
	})
}

// Two who evict at a time, as when the lease of one is over, evict no more than one
// would, but for an image or two.
func TestCacheEvictedByTwo(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		const images = 20
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: images / 2 * layerSize}})
		all := make(map[string]registry.Digest)
		for i := range images {
			name := string(rune('a' + i))
			all[name] = s.fetch(t, "hub", name, 0, registry.Tag(name))
		}
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				if err := s.TrimCache(context.Background(), make(map[registry.Pool]int64)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if got := s.left(t, "hub", all); len(got) > images/2 || len(got) < images/2-3 {
			t.Errorf("left: %q, want 8 or 9", got)
		}
	})
}

// Where storage.subPaths has changed, what a repository has in its former pool can't
// be evicted for the sake of that: it is not counted there, or others would make room
// for it again and again.
func TestCacheOfAnotherPool(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		limit := metadata.Cache{Bytes: 5 * layerSize}
		s := openCache(t, at, metadata.Options{Cache: limit})
		for _, name := range []string{"a", "b", "c", "d"} {
			s.fetch(t, "hub/x", name, 0, registry.Tag(name))
		}
		s.close(t)
		s.store = openStore(t, s.place, metadata.Options{Cache: limit, Now: s.now.now, Pools: []registry.Pool{"/hub"}}, newBin(0))
		all := map[string]registry.Digest{"e": s.fetch(t, "quay/x", "e", 0, "e"), "f": s.fetch(t, "quay/x", "f", 0, "f")}
		s.trim(t)
		if got := s.left(t, "quay/x", all); got != "ef" {
			t.Errorf("left: %q, want ef: there are two images in a pool for five", got)
		}
	})
}

// A tag that must stay keeps its image, whoever fetched that.
func TestCacheKeepsImmutableTags(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		hub, err := glob.CompileAll([]string{"hub"})
		if err != nil {
			t.Fatal(err)
		}
		tags, err := glob.CompileAll([]string{"v*"})
		if err != nil {
			t.Fatal(err)
		}
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: 1},
			Limits: metadata.Limits{Immutable: []metadata.ImmutableTags{{Repositories: hub, Tags: tags}}}})
		all := map[string]registry.Digest{"a": s.fetch(t, "hub", "a", 0, "v1"), "b": s.fetch(t, "hub", "b", 0, "latest")}
		s.trim(t)
		if got := s.left(t, "hub", all); got != "a" {
			t.Errorf("left: %q, want the image with the tag that must stay", got)
		}
		if _, err := s.EvictCached(t.Context(), alice, "hub", registry.Reference{Tag: "v1"}); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("evicting it by hand: %v", err)
		}
		if done, err := s.EvictCached(t.Context(), alice, "hub", registry.Reference{}); err != nil || done.Manifests != 0 {
			t.Errorf("evicting all: %+v, %v", done, err)
		}
	})
}

// An index that is pinned keeps what it lists, and who refers to it.
func TestCachePinsAround(t *testing.T) {
	onEach(t, func(t *testing.T, at newPlace) {
		s := openCache(t, at, metadata.Options{Cache: metadata.Cache{Bytes: 1}})
		child, other := s.fetch(t, "hub", "a", 0), s.fetch(t, "hub", "b", 0)
		index := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
			registry.TypeIndex, registry.TypeManifest, child, len(manifestOf([]byte(strings.Repeat("a", layerSize))).Bytes))
		put := registry.ManifestPut{Digest: registry.SHA256.FromBytes(index), MediaType: registry.TypeIndex, Bytes: index, Tags: []registry.Tag{"v1"}}
		if _, err := s.PutCached(t.Context(), alice, "hub", put, registry.Origin{}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetPin(t.Context(), alice, registry.Pin{Pattern: "h*:v1"}); err != nil {
			t.Fatal(err)
		}
		s.now.move(time.Hour)
		s.trim(t)
		all := map[string]registry.Digest{"a": child, "b": other, "i": put.Digest}
		if got := s.left(t, "hub", all); got != "ai" {
			t.Errorf("left: %q, want the pinned index and its child", got)
		}
		if err := s.ClearPin(t.Context(), alice, "h*:v1"); err != nil {
			t.Fatal(err)
		}
		s.trim(t)
		if got := s.left(t, "hub", all); strings.Contains(got, "a") {
			t.Errorf("left without the pin: %q", got)
		}
	})
}
