package registrytest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func contentTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ContentMissing", testContentMissing},
		{"ContentOfAnotherRepository", testContentElsewhere},
		{"ContentForeign", testContentForeign},
		{"ContentOfIndex", testContentOfIndex},
		{"ContentIsAManifest", testContentIsAManifest},
		{"ContentSize", testContentSize},
		{"WrongSizes", testWrongSizes},
		{"Sparse", testSparse},
	}
}

// checkMissing checks that m is refused for want of exactly the content given,
// and leaves nothing behind.
func (c *catalog) checkMissing(t *testing.T, repo registry.Name, mediaType string, data []byte, want ...registry.Digest) {
	t.Helper()
	_, err := c.PutManifest(t.Context(), alice, repo, registry.ManifestPut{
		Digest: sha256of(data), MediaType: mediaType, Bytes: data, Tags: []registry.Tag{"refused"},
	})
	wantErr(t, "PutManifest without its content", err, registry.ErrManifestBlobUnknown)
	if err != nil {
		slices.Sort(want)
		if diff := cmp.Diff(want, missing(t, err)); diff != "" {
			t.Errorf("missing content: -want +got\n%s", diff)
		}
	}
	c.checkNoManifest(t, repo, sha256of(data))
	c.checkTag(t, repo, "refused", "")
}

func testContentMissing(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config, one, two := []byte("config"), []byte("layer 1"), []byte("layer 2")
	data := imageOf(config, one, two, one)
	c.checkMissing(t, "a", registry.TypeManifest, data, sha256of(config), sha256of(one), sha256of(two))
	_, err := c.Tags(t.Context(), alice, "a", registry.Page[registry.Tag]{Limit: 1})
	wantErr(t, "Tags where nothing was stored", err, registry.ErrNameUnknown)
	c.link(t, "a", one)
	c.checkMissing(t, "a", registry.TypeManifest, data, sha256of(config), sha256of(two))
	c.link(t, "a", two)
	c.checkMissing(t, "a", registry.TypeManifest, data, sha256of(config))
	c.link(t, "a", config)
	c.put(t, "a", registry.TypeManifest, data, "t")
}

func testContentElsewhere(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	d := c.put(t, "a", registry.TypeManifest, data)
	config, layer := sha256of([]byte("config of 1")), sha256of([]byte("layer of 1"))
	for _, repo := range []registry.Name{"b", "a/b", "a-b"} {
		// What another repository may read is no business of this one.
		c.checkMissing(t, repo, registry.TypeManifest, data, config, layer)
		c.checkMissing(t, repo, registry.TypeIndex, indexOf(descriptor(registry.TypeManifest, data)), d)
	}
}

func testContentForeign(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config, own, foreign := []byte("config"), []byte("own"), []byte("foreign")
	c.link(t, "a", config)
	m := image(config)
	layers := []registry.Descriptor{descriptor(typeForeign, foreign), descriptor(typeLayer, own)}
	layers[0].URLs = []string{"https://example.com/layer"}
	m["layers"] = layers
	c.checkMissing(t, "a", registry.TypeManifest, m.bytes(), sha256of(own))
	c.link(t, "a", own)
	c.put(t, "a", registry.TypeManifest, m.bytes(), "t")
	_, err := c.Blob(t.Context(), alice, "a", sha256of(foreign))
	wantErr(t, "Blob of a foreign layer", err, registry.ErrBlobUnknown)
	c.link(t, "a", foreign) // it may come later

	docker := image(config)
	docker["mediaType"] = registry.TypeDockerManifest
	docker["layers"] = []registry.Descriptor{descriptor("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("windows"))}
	c.put(t, "a", registry.TypeDockerManifest, docker.bytes())
}

func testContentOfIndex(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	child := c.imageBytes(t, "a", "1")
	cache, config := []byte("a cached layer"), []byte("a cache config")
	// buildkit lists blobs in an index.
	buildkit := indexOf(descriptor(typeLayer, cache), descriptor("application/vnd.buildkit.cacheconfig.v0", config))
	mixed := indexOf(descriptor(registry.TypeManifest, child), descriptor(registry.TypeIndex, buildkit))
	c.checkMissing(t, "a", registry.TypeIndex, mixed, sha256of(child), sha256of(buildkit))
	c.checkMissing(t, "a", registry.TypeIndex, buildkit, sha256of(cache), sha256of(config))
	c.link(t, "a", cache)
	c.checkMissing(t, "a", registry.TypeIndex, buildkit, sha256of(config))
	c.link(t, "a", config)
	c.put(t, "a", registry.TypeIndex, buildkit, "cache")
	c.put(t, "a", registry.TypeManifest, child)
	c.put(t, "a", registry.TypeIndex, mixed, "mixed")
	wantErr(t, "Unlink of a blob an index lists", c.Unlink(t.Context(), alice, "a", sha256of(cache)), registry.ErrInUse)

	// P-39: 16 deep, and 65,536 ways from top to bottom.
	nested := mixed
	for range 16 {
		nested = indexOf(descriptor(registry.TypeIndex, nested), descriptor(registry.TypeIndex, nested))
		c.put(t, "a", registry.TypeIndex, nested)
	}
	c.checkManifest(t, "a", registry.Reference{Digest: sha256of(nested)}, registry.TypeIndex, nested)
}

func testContentIsAManifest(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	inner := c.imageBytes(t, "a", "1")
	config := []byte("config")
	c.link(t, "a", config)
	outer := imageOf(config, inner)
	c.checkMissing(t, "a", registry.TypeManifest, outer, sha256of(inner))
	c.put(t, "a", registry.TypeManifest, inner)
	c.put(t, "a", registry.TypeManifest, outer) // a digest is known, as a blob or as a manifest
}

// testContentSize lies about the size of content that is there: a reader that
// believes the manifest would read too little, or wait for more.
func testContentSize(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{AllowSparse: true})
	config, layer, gone := []byte("config"), []byte("layer"), []byte("gone")
	c.link(t, "a", config)
	c.link(t, "a", layer)
	child := imageOf(config)
	c.put(t, "a", registry.TypeManifest, child)
	sized := func(d registry.Descriptor, size int64) registry.Descriptor { d.Size = size; return d }
	withLayers := func(layers ...registry.Descriptor) []byte {
		m := image(config)
		m["layers"] = layers
		return m.bytes()
	}
	ofConfig := func(d registry.Descriptor) []byte {
		m := image(config)
		m["config"] = d
		return m.bytes()
	}
	own, foreign := descriptor(typeLayer, layer), descriptor(typeForeign, layer)
	for what, m := range map[string]struct {
		mediaType string
		data      []byte
		names     registry.Digest // in the message; "" if the manifest is good
	}{
		"a layer with a byte less": {registry.TypeManifest, withLayers(sized(own, 4)), own.Digest},
		"a layer with a byte more": {registry.TypeManifest, withLayers(sized(own, 6)), own.Digest},
		"a layer of no bytes":      {registry.TypeManifest, withLayers(sized(own, 0)), own.Digest},
		"a config":                 {registry.TypeManifest, ofConfig(sized(descriptor(typeConfig, config), 7)), sha256of(config)},
		"a child":                  {registry.TypeIndex, indexOf(sized(descriptor(registry.TypeManifest, child), 9)), sha256of(child)},
		"a child that is a blob":   {registry.TypeIndex, indexOf(sized(own, 9)), own.Digest},
		"the second time":          {registry.TypeManifest, withLayers(own, sized(own, 6)), own.Digest},
		"the own copy":             {registry.TypeManifest, withLayers(foreign, sized(own, 6)), own.Digest},
		"the foreign one":          {registry.TypeManifest, withLayers(sized(foreign, 6)), ""},
		"the foreign one of two":   {registry.TypeManifest, withLayers(sized(foreign, 6), own, sized(foreign, 7)), ""},
		"what is missing":          {registry.TypeManifest, withLayers(sized(descriptor(typeLayer, gone), 99)), ""},
	} {
		put := registry.ManifestPut{Digest: sha256of(m.data), MediaType: m.mediaType, Bytes: m.data, Tags: []registry.Tag{"sized"}}
		_, err := c.PutManifest(t.Context(), alice, "a", put)
		if m.names == "" {
			must(t, "PutManifest with a lie about the size of "+what, err)
			must(t, "DeleteManifest", c.DeleteManifest(t.Context(), alice, "a", put.Digest))
			continue
		}
		wantErr(t, "PutManifest with a lie about the size of "+what, err, registry.ErrManifestInvalid)
		if err != nil && !strings.Contains(registry.AsError(err).Text(), m.names.String()) {
			t.Errorf("a lie about the size of %s: the message does not name it: %s", what, registry.AsError(err).Text())
		}
		c.checkNoManifest(t, "a", put.Digest)
		c.checkTag(t, "a", "sized", "")
	}
}

// testWrongSizes: what the switch lets through is stored as it came, and its
// content is told with its own size all the same.
func testWrongSizes(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{AllowWrongSizes: true})
	config, layer := []byte("config"), []byte("layer")
	c.link(t, "a", config)
	s := c.link(t, "a", layer)
	m := image(config)
	wrong := descriptor(typeLayer, layer)
	wrong.Size++
	m["layers"] = []registry.Descriptor{wrong}
	c.put(t, "a", registry.TypeManifest, m.bytes(), "t")
	c.checkManifest(t, "a", registry.Reference{Tag: "t"}, registry.TypeManifest, m.bytes())
	c.checkBlob(t, "a", s)
	c.checkMissing(t, "a", registry.TypeManifest, imageOf(config, []byte("gone")), sha256of([]byte("gone")))
}

func testSparse(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{AllowSparse: true})
	config, layer := []byte("config"), []byte("layer")
	child := imageOf(config, layer)
	index := indexOf(descriptor(registry.TypeManifest, child))
	c.put(t, "a", registry.TypeIndex, index, "t")
	c.checkManifest(t, "a", registry.Reference{Tag: "t"}, registry.TypeIndex, index)
	c.checkNoManifest(t, "a", sha256of(child))
	_, err := c.Blob(t.Context(), alice, "a", sha256of(child))
	wantErr(t, "Blob of a missing child", err, registry.ErrBlobUnknown)

	c.put(t, "a", registry.TypeManifest, child) // content may come after its manifest
	_, err = c.Blob(t.Context(), alice, "a", sha256of(layer))
	wantErr(t, "Blob of a missing layer", err, registry.ErrBlobUnknown)
	s := c.link(t, "a", layer)
	c.checkBlob(t, "a", s)
	wantErr(t, "Unlink of a layer that came later", c.Unlink(t.Context(), alice, "a", s.Digest), registry.ErrInUse)
	wantErr(t, "DeleteManifest of a child that came later", c.DeleteManifest(t.Context(), alice, "a", sha256of(child)), registry.ErrInUse)
}
