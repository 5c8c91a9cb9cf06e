package registrytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

func cachedTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"Cached", testCached},
		{"CachedByPush", testCachedByPush},
		{"CachedIncomplete", testCachedIncomplete},
		{"CachedUndelete", testCachedUndelete},
		{"CachedReferrer", testCachedReferrer},
		{"CachedBlob", testCachedBlob},
		{"CachedUntag", testCachedUntag},
		{"CachedList", testCachedList},
		{"CachePins", testCachePins},
	}
}

var hub = registry.Origin{Upstream: "https://hub.test", Cost: 5_000_000}

// fetched is an image that was fetched: its config is here, its layer is not.
type fetched struct {
	digest, layer registry.Digest
	bytes         []byte
	layerData     []byte
	here          int64 // bytes of what is here
}

func (c *catalog) fetch(t *testing.T, repo registry.Name, seed string, tags ...registry.Tag) fetched {
	t.Helper()
	config, layer := []byte("config of "+seed), []byte("layer of "+seed)
	_, err := c.LinkCached(t.Context(), alice, repo, c.copyOf(repo, config))
	must(t, "LinkCached", err)
	data := imageOf(config, layer)
	f := fetched{sha256of(data), sha256of(layer), data, layer, int64(len(config))}
	_, err = c.PutCached(t.Context(), alice, repo, f.put(tags...), hub)
	must(t, "PutCached", err)
	return f
}

func (f fetched) put(tags ...registry.Tag) registry.ManifestPut {
	return registry.ManifestPut{Digest: f.digest, MediaType: registry.TypeManifest, Bytes: f.bytes, Tags: tags}
}

func (c *catalog) usage(t *testing.T) (bytes, manifests int64) {
	t.Helper()
	all, err := c.CacheUsage(t.Context(), alice)
	must(t, "CacheUsage", err)
	for _, u := range all {
		bytes += u.Bytes
		manifests += u.Manifests
	}
	return bytes, manifests
}

func (c *catalog) wantUsage(t *testing.T, what string, bytes, manifests int64) {
	t.Helper()
	if b, m := c.usage(t); b != bytes || m != manifests {
		t.Errorf("%s: %d bytes of %d manifests are cached, want %d of %d", what, b, m, bytes, manifests)
	}
}

func (c *catalog) pushedTo(t *testing.T, repo registry.Name, want bool) {
	t.Helper()
	if got, err := c.PushedTo(t.Context(), alice, repo); err != nil || got != want {
		t.Errorf("PushedTo(%s): got %v, %v, want %v", repo, got, err, want)
	}
}

// What was fetched has holes, is counted, and can be evicted and fetched again.
func testCached(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	f := c.fetch(t, "hub/a", "x", "v1")
	c.checkTag(t, "hub/a", "v1", f.digest)
	_, err := c.Blob(ctx, alice, "hub/a", f.layer)
	wantErr(t, "Blob that was not fetched", err, registry.ErrBlobUnknown)
	c.wantUsage(t, "a config", f.here, 1)
	_, err = c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
	must(t, "LinkCached", err)
	all := f.here + int64(len(f.layerData))
	c.wantUsage(t, "config and layer", all, 1)
	c.pushedTo(t, "hub/a", false)
	c.pushedTo(t, "nowhere", false)

	done, err := c.EvictCached(ctx, alice, "hub/a", registry.Reference{Tag: "v1"})
	must(t, "EvictCached", err)
	if diff := cmp.Diff(registry.Eviction{Manifests: 1, Bytes: all}, done); diff != "" {
		t.Errorf("EvictCached: -want +got\n%s", diff)
	}
	c.wantUsage(t, "evicted", 0, 0)
	_, err = c.Manifest(ctx, alice, "hub/a", registry.ManifestQuery{Ref: registry.Reference{Tag: "v1"}})
	wantErr(t, "Manifest that was evicted", err, registry.ErrManifestUnknown, registry.ErrNameUnknown)
	_, err = c.EvictCached(ctx, alice, "hub/a", registry.Reference{Digest: f.digest})
	wantErr(t, "EvictCached again", err, registry.ErrManifestUnknown)

	c.fetch(t, "hub/a", "x", "v1")
	c.fetch(t, "hub/a", "y", "v2")
	done, err = c.EvictCached(ctx, alice, "hub/a", registry.Reference{})
	must(t, "EvictCached of all", err)
	if done.Manifests != 2 || done.More {
		t.Errorf("EvictCached of all: got %+v, want 2 manifests", done)
	}
	c.wantUsage(t, "all evicted", 0, 0)
	_, err = c.PutCached(ctx, alice, "hub/a", f.put(), registry.Origin{Cost: -1})
	wantErr(t, "PutCached with a strange cost", err, registry.ErrParameterInvalid)
	_, err = c.EvictCached(ctx, alice, "nowhere", registry.Reference{})
	wantErr(t, "EvictCached in no repository", err, registry.ErrNameUnknown)
}

// A tag of cached content goes alone, if it is still what it was said to be; one that
// was pushed stays.
func testCachedUntag(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	f := c.fetch(t, "hub/a", "x", "v1", "same")
	other := c.fetch(t, "hub/a", "y", "v2")
	wantErr(t, "UntagCached of what moved", c.UntagCached(ctx, alice, "hub/a", "v1", other.digest), registry.ErrPreconditionFailed)
	wantErr(t, "UntagCached of no tag", c.UntagCached(ctx, alice, "hub/a", "v3", f.digest), registry.ErrManifestUnknown)
	wantErr(t, "UntagCached in no repository", c.UntagCached(ctx, alice, "nowhere", "v1", f.digest), registry.ErrNameUnknown)
	must(t, "UntagCached", c.UntagCached(ctx, alice, "hub/a", "v1", f.digest))
	c.checkTag(t, "hub/a", "same", f.digest)
	_, err := c.Manifest(ctx, alice, "hub/a", registry.ManifestQuery{Ref: registry.Reference{Tag: "v1"}})
	wantErr(t, "Manifest of the tag", err, registry.ErrManifestUnknown)
	history, err := c.TagHistory(ctx, alice, "hub/a", "v1", 1)
	if err != nil || len(history) != 1 || history[0].Digest != "" || history[0].Actor != alice.ID {
		t.Errorf("TagHistory: got %+v, %v", history, err)
	}
	c.copyOf("hub/a", f.layerData)
	must(t, "Undelete", c.Undelete(ctx, alice, "hub/a", registry.Reference{Tag: "v1"}))
	c.checkTag(t, "hub/a", "v1", f.digest)
	_, err = c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
	must(t, "LinkCached", err)
	_, err = c.PutManifest(ctx, alice, "hub/a", f.put("mine"))
	must(t, "PutManifest", err)
	wantErr(t, "UntagCached of what was pushed", c.UntagCached(ctx, alice, "hub/a", "v1", f.digest), registry.ErrInUse)
	c.checkTag(t, "hub/a", "v1", f.digest)
}

// What somebody pushes is not cached any more, nor is what that needs.
func testCachedByPush(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	x, y := c.fetch(t, "hub/a", "x", "x"), c.fetch(t, "hub/a", "y", "y")
	for _, f := range []fetched{x, y} {
		_, err := c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
		must(t, "LinkCached", err)
	}
	_, err := c.PutManifest(ctx, alice, "hub/a", x.put("mine"))
	must(t, "PutManifest", err)
	c.pushedTo(t, "hub/a", true)
	c.wantUsage(t, "one was pushed", y.here+int64(len(y.layerData)), 1)
	for _, r := range []registry.Reference{{Tag: "mine"}, {Digest: x.digest}, {Digest: x.layer}} {
		_, err = c.EvictCached(ctx, alice, "hub/a", r)
		wantErr(t, "EvictCached of what was pushed", err, registry.ErrInUse)
	}
	// Fetching it again does not change that.
	_, err = c.PutCached(ctx, alice, "hub/a", x.put("x"), hub)
	must(t, "PutCached", err)
	_, err = c.EvictCached(ctx, alice, "hub/a", registry.Reference{Digest: x.digest})
	wantErr(t, "EvictCached of what was pushed and fetched", err, registry.ErrInUse)

	// An index that somebody pushes keeps what it lists.
	index := indexOf(descriptor(registry.TypeManifest, y.bytes))
	c.put(t, "hub/a", registry.TypeIndex, index, "index")
	c.wantUsage(t, "what the index lists is pushed, with all it needs", 0, 0)
	_, err = c.EvictCached(ctx, alice, "hub/a", registry.Reference{Digest: y.digest})
	wantErr(t, "EvictCached of a child of a pushed index", err, registry.ErrInUse)
	done, err := c.EvictCached(ctx, alice, "hub/a", registry.Reference{})
	must(t, "EvictCached of all", err)
	if done.Manifests != 0 {
		t.Errorf("EvictCached of all: %+v, though everything is pushed", done)
	}
	c.checkTag(t, "hub/a", "mine", x.digest)
	c.checkTag(t, "hub/a", "y", y.digest)
}

// What was fetched may have holes. Nobody can push it like that: content that was
// pushed is never fetched again.
func testCachedIncomplete(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	f := c.fetch(t, "hub/a", "x", "v1")
	_, err := c.PutManifest(ctx, alice, "hub/a", f.put("mine"))
	wantErr(t, "PutManifest of an image whose layer is not here", err, registry.ErrManifestBlobUnknown)
	c.pushedTo(t, "hub/a", false)
	_, err = c.Manifest(ctx, alice, "hub/a", registry.ManifestQuery{Ref: registry.Reference{Tag: "mine"}})
	wantErr(t, "Manifest by the tag that was refused", err, registry.ErrManifestUnknown)
	c.link(t, "hub/a", f.layerData)
	_, err = c.PutManifest(ctx, alice, "hub/a", f.put("mine"))
	must(t, "PutManifest", err)
	c.checkTag(t, "hub/a", "mine", f.digest)
	c.wantUsage(t, "pushed", 0, 0)
}

// What somebody brings back is not cached any more, nor is what it needs.
func testCachedUndelete(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	f := c.fetch(t, "hub/a", "x", "v1")
	_, err := c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
	must(t, "LinkCached", err)
	must(t, "DeleteManifest", c.DeleteManifest(ctx, alice, "hub/a", f.digest))
	must(t, "Undelete", c.Undelete(ctx, alice, "hub/a", registry.Reference{Digest: f.digest}))
	c.checkTag(t, "hub/a", "v1", f.digest)
	c.pushedTo(t, "hub/a", true)
	c.wantUsage(t, "brought back", 0, 0)
}

// A signature that somebody pushed keeps its subject.
func testCachedReferrer(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	f := c.fetch(t, "hub/a", "x", "v1")
	c.link(t, "hub/a", []byte("{}"))
	c.put(t, "hub/a", registry.TypeManifest, referrer(f.digest, "application/signature", []byte("{}")).bytes())
	_, err := c.EvictCached(t.Context(), alice, "hub/a", registry.Reference{Tag: "v1"})
	wantErr(t, "EvictCached of what was signed here", err, registry.ErrInUse)
}

// A blob can be evicted alone, so that it is fetched again.
func testCachedBlob(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	f := c.fetch(t, "hub/a", "x", "v1")
	layer := registry.Reference{Digest: f.layer}
	_, err := c.EvictCached(ctx, alice, "hub/a", layer)
	wantErr(t, "EvictCached of a blob that is not here", err, registry.ErrManifestUnknown)
	_, err = c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
	must(t, "LinkCached", err)
	done, err := c.EvictCached(ctx, alice, "hub/a", layer)
	must(t, "EvictCached", err)
	if diff := cmp.Diff(registry.Eviction{Blobs: 1, Bytes: int64(len(f.layerData))}, done); diff != "" {
		t.Errorf("EvictCached of a blob: -want +got\n%s", diff)
	}
	_, err = c.Blob(ctx, alice, "hub/a", f.layer)
	wantErr(t, "Blob that was evicted", err, registry.ErrBlobUnknown)
	c.checkTag(t, "hub/a", "v1", f.digest)
	s, err := c.LinkCached(ctx, alice, "hub/a", c.copyOf("hub/a", f.layerData))
	must(t, "LinkCached again", err)
	c.checkBlob(t, "hub/a", s)
}

func testCachedList(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	var want []registry.CachedManifest
	for _, seed := range []string{"x", "y", "z"} {
		f := c.fetch(t, "hub/a", seed, registry.Tag(seed), registry.Tag(seed+"2"))
		want = append(want, registry.CachedManifest{Digest: f.digest, Tags: []registry.Tag{registry.Tag(seed), registry.Tag(seed + "2")}, Size: f.here + int64(len(f.bytes)), Origin: hub})
	}
	slices.SortFunc(want, func(a, b registry.CachedManifest) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	must(t, "SetPin", c.SetPin(ctx, alice, registry.Pin{Pattern: "hub/*:y"}))
	for i := range want {
		if want[i].Tags[0] == "y" {
			want[i].Pinned = "hub/*:y"
		}
	}
	c.image(t, "hub/a", "pushed", "mine")
	var got []registry.CachedManifest
	for p := (registry.Page[registry.Digest]{Limit: 2}); ; {
		list, err := c.CachedManifests(ctx, alice, "hub/a", p)
		must(t, "CachedManifests", err)
		for _, m := range list.Items {
			if m.Fetched == 0 || m.Used < m.Fetched {
				t.Errorf("times of %+v", m)
			}
		}
		got = append(got, list.Items...)
		if !list.More {
			break
		}
		p.After = list.Items[len(list.Items)-1].Digest
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(registry.CachedManifest{}, "Fetched", "Used")); diff != "" {
		t.Errorf("CachedManifests: -want +got\n%s", diff)
	}
	_, err := c.CachedManifests(ctx, alice, "nowhere", registry.Page[registry.Digest]{Limit: 2})
	wantErr(t, "CachedManifests", err, registry.ErrNameUnknown)
}

func testCachePins(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	ctx := t.Context()
	for _, pattern := range []string{"", "[", "a:", "a:[", "a@sha256:1", ":x"} {
		wantErr(t, "SetPin "+pattern, c.SetPin(ctx, alice, registry.Pin{Pattern: pattern}), registry.ErrParameterInvalid)
	}
	wantErr(t, "SetPin with a long reason", c.SetPin(ctx, alice, registry.Pin{Pattern: "a", Reason: strings.Repeat("x", registry.MaxReason+1)}), registry.ErrTooLarge)
	digest := "b@" + string(sha256of([]byte("x")))
	for _, pattern := range []string{digest, "a/**", "a/**:v*"} {
		must(t, "SetPin", c.SetPin(ctx, alice, registry.Pin{Pattern: pattern}))
	}
	must(t, "SetPin again", c.SetPin(ctx, alice, registry.Pin{Pattern: "a/**", Reason: "needed offline"}))
	must(t, "ClearPin", c.ClearPin(ctx, alice, "a/**:v*"))
	must(t, "ClearPin of none", c.ClearPin(ctx, alice, "other"))
	got, err := c.Pins(ctx, alice)
	must(t, "Pins", err)
	want := []registry.Pin{{Pattern: "a/**", Reason: "needed offline", Actor: alice.ID}, {Pattern: digest, Actor: alice.ID}}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(registry.Pin{}, "Since")); diff != "" {
		t.Errorf("Pins: -want +got\n%s", diff)
	}
}
