package registrytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
)

func manifestTests() []test[CatalogBackend] {
	return []test[CatalogBackend]{
		{"ManifestUnknown", testManifestUnknown},
		{"ManifestQuery", testManifestQuery},
		{"ManifestBytes", testManifestBytes},
		{"ManifestTypes", testManifestTypes},
		{"ManifestSHA512", testManifestSHA512},
		{"ManifestInvalid", testManifestInvalid},
		{"ManifestSize", testManifestSize},
		{"ManifestManyTags", testManifestManyTags},
		{"ManifestRepeated", testManifestRepeated},
	}
}

func testManifestUnknown(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	query := func(repo registry.Name, ref registry.Reference) error {
		_, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: ref})
		return err
	}
	one := registry.Reference{Digest: c.image(t, "a", "1", "one")}
	blob := registry.Reference{Digest: c.link(t, "a", []byte("a blob")).Digest}
	none := registry.Reference{Digest: sha256of([]byte("nothing"))}
	c.link(t, "blobs/only", []byte("a blob"))

	for _, ref := range []registry.Reference{one, none, {Tag: "one"}, {Tag: "two"}} {
		wantErr(t, "Manifest of no repository", query("b", ref), registry.ErrNameUnknown)
		wantErr(t, "Manifest of a repository of blobs", query("blobs/only", ref), registry.ErrManifestUnknown)
	}
	wantErr(t, "Manifest of a digest", query("a", none), registry.ErrManifestUnknown)
	wantErr(t, "Manifest of a tag", query("a", registry.Reference{Tag: "two"}), registry.ErrManifestUnknown)
	wantErr(t, "Manifest of a tag in another case", query("a", registry.Reference{Tag: "One"}), registry.ErrManifestUnknown)
	wantErr(t, "Manifest of a blob", query("a", blob), registry.ErrManifestUnknown)
	must(t, "Manifest", query("a", one))
}

func testManifestQuery(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	d := c.put(t, "a", registry.TypeManifest, data, "one")
	other := c.image(t, "a", "2", "two")
	full := registry.Manifest{Digest: d, MediaType: registry.TypeManifest, Size: int64(len(data)), Bytes: data}
	bare := full
	bare.Bytes = nil
	for _, ref := range []registry.Reference{{Tag: "one"}, {Digest: d}} {
		for _, q := range []struct {
			registry.ManifestQuery
			want registry.Manifest
		}{
			{registry.ManifestQuery{Ref: ref}, full},
			{registry.ManifestQuery{Ref: ref, Have: other}, full},
			{registry.ManifestQuery{Ref: ref, Have: d}, bare},
			{registry.ManifestQuery{Ref: ref, NoBytes: true}, bare},
			{registry.ManifestQuery{Ref: ref, Have: other, NoBytes: true}, bare},
			{registry.ManifestQuery{Ref: ref, Have: d, NoBytes: true}, bare},
		} {
			got, err := c.Manifest(t.Context(), alice, "a", q.ManifestQuery)
			must(t, "Manifest", err)
			if diff := cmp.Diff(q.want, got); diff != "" {
				t.Errorf("Manifest %+v: -want +got\n%s", q.ManifestQuery, diff)
			}
		}
	}
}

func testManifestBytes(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	compact := c.imageBytes(t, "a", "1")
	// JSON of the same meaning, and members and letters a parser may not keep.
	for i, data := range [][]byte{
		compact,
		append(bytes.Clone(compact), " \n\r\n"...),
		append([]byte("\n\t "), compact...),
		bytes.ReplaceAll(compact, []byte(`,`), []byte(" ,\n")),
		bytes.Replace(compact, []byte(`{`), []byte(`{"zzz":{"b":1.0,"a":[1e2]},"é":"\u00e9<>&\u2028",`), 1),
	} {
		tag := registry.Tag(fmt.Sprint("t", i))
		pushed := bytes.Clone(data)
		d := c.put(t, "a", registry.TypeManifest, pushed, tag)
		clear(pushed) // the caller's buffer is the caller's
		c.checkManifest(t, "a", registry.Reference{Tag: tag}, registry.TypeManifest, data)
		c.checkManifest(t, "a", registry.Reference{Digest: d}, registry.TypeManifest, data)
	}
}

func testManifestTypes(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config, layer := []byte("config"), []byte("layer")
	c.link(t, "a", config)
	c.link(t, "a", layer)
	oci := image(config, layer)
	docker := image(config, layer)
	docker["mediaType"] = registry.TypeDockerManifest
	untyped := image(config, layer)
	delete(untyped, "mediaType")
	list := object{"schemaVersion": 2, "mediaType": registry.TypeDockerList, "manifests": []registry.Descriptor{
		descriptor(registry.TypeDockerManifest, docker.bytes()), descriptor(registry.TypeManifest, oci.bytes()),
	}}
	var last registry.Digest
	for _, m := range []struct {
		mediaType string
		data      []byte
	}{
		{registry.TypeManifest, oci.bytes()},
		{registry.TypeDockerManifest, docker.bytes()},
		{registry.TypeManifest, untyped.bytes()},
		{registry.TypeDockerList, list.bytes()},
		{registry.TypeIndex, indexOf(descriptor(registry.TypeDockerManifest, docker.bytes()))},
		{registry.TypeIndex, indexOf()},
	} {
		// A tag may change its media type, docker to OCI.
		last = c.put(t, "a", m.mediaType, m.data, "t")
		c.checkManifest(t, "a", registry.Reference{Tag: "t"}, m.mediaType, m.data)
	}
	c.checkTag(t, "a", "t", last)
	if got := c.tags(t, "a", 10); len(got) != 1 {
		t.Errorf("Tags: got %v, want t", got)
	}
}

func testManifestSHA512(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	long := registry.SHA512.FromBytes(data)
	put := registry.ManifestPut{Digest: long, MediaType: registry.TypeManifest, Bytes: data, Tags: []registry.Tag{"long"}}
	_, err := c.PutManifest(t.Context(), alice, "a", put)
	must(t, "PutManifest by sha512", err)
	c.checkManifest(t, "a", registry.Reference{Digest: long}, registry.TypeManifest, data)
	c.checkTag(t, "a", "long", long)
	c.checkNoManifest(t, "a", sha256of(data))

	short := c.put(t, "a", registry.TypeManifest, data, "short")
	c.checkTag(t, "a", "long", long)
	c.checkTag(t, "a", "short", short)

	layer := c.copyOf("a", []byte("a layer"))
	layer.Digest = registry.SHA512.FromString("a layer")
	got, err := c.Link(t.Context(), alice, "a", layer)
	must(t, "Link by sha512", err)
	c.checkBlob(t, "a", got)

	m := image([]byte("config of 1"))
	m["layers"] = []registry.Descriptor{{MediaType: typeLayer, Digest: layer.Digest, Size: layer.Size}}
	m["subject"] = registry.Descriptor{MediaType: registry.TypeManifest, Digest: long, Size: 1}
	d := c.put(t, "a", registry.TypeManifest, m.bytes())
	refs := c.referrers(t, "a", long, "", 10)
	if len(refs) != 1 || refs[0].Digest != d {
		t.Errorf("Referrers of a sha512: got %v, want %s", refs, d)
	}
}

func testManifestInvalid(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("config")
	c.link(t, "a", config)
	good := imageOf(config)
	for _, m := range []struct {
		what, mediaType string
		data            []byte
		digest          registry.Digest
		want            error
	}{
		{"another digest", registry.TypeManifest, good, sha256of([]byte("else")), registry.ErrDigestInvalid},
		{"another sha512", registry.TypeManifest, good, registry.SHA512.FromString("else"), registry.ErrDigestInvalid},
		{"malformed digest", registry.TypeManifest, good, "sha256:xyz", registry.ErrDigestInvalid},
		{"unknown algorithm", registry.TypeManifest, good, "md5:d41d8cd98f00b204e9800998ecf8427e", registry.ErrDigestInvalid},
		{"no digest", registry.TypeManifest, good, "", registry.ErrDigestInvalid},
		{"not JSON", registry.TypeManifest, []byte("hello"), "?", registry.ErrManifestInvalid},
		{"nothing", registry.TypeManifest, nil, "?", registry.ErrManifestInvalid},
		{"another type", registry.TypeDockerManifest, good, "?", registry.ErrManifestInvalid},
		{"an image as an index", registry.TypeIndex, good, "?", registry.ErrManifestInvalid},
		{"no type", "", good, "?", registry.ErrManifestInvalid},
		{"unknown type", "application/json", good, "?", registry.ErrMediaTypeUnsupported},
	} {
		if m.digest == "?" {
			m.digest = sha256of(m.data)
		}
		for _, repo := range []registry.Name{"a", "new"} {
			_, err := c.PutManifest(t.Context(), alice, repo, registry.ManifestPut{
				Digest: m.digest, MediaType: m.mediaType, Bytes: m.data, Tags: []registry.Tag{"t"},
			})
			wantErr(t, "PutManifest of "+m.what, err, m.want)
			c.checkTag(t, repo, "t", "")
		}
		c.checkNoManifest(t, "a", sha256of(m.data))
	}
	_, err := c.Tags(t.Context(), alice, "new", registry.Page[registry.Tag]{Limit: 1})
	wantErr(t, "Tags where nothing was stored", err, registry.ErrNameUnknown)
	if h := c.history(t, "a", "t", 10); len(h) != 0 {
		t.Errorf("refused manifests are in a tag's history: %v", h)
	}
}

func testManifestSize(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	config := []byte("config")
	c.link(t, "a", config)
	small := imageOf(config)
	padded := func(n int) []byte {
		return append(bytes.Clone(small), strings.Repeat(" ", n-len(small))...)
	}
	largest := padded(registry.MaxManifest)
	c.put(t, "a", registry.TypeManifest, largest, "largest")
	c.checkManifest(t, "a", registry.Reference{Tag: "largest"}, registry.TypeManifest, largest)

	over := padded(registry.MaxManifest + 1)
	_, err := c.PutManifest(t.Context(), alice, "a", registry.ManifestPut{
		Digest: sha256of(over), MediaType: registry.TypeManifest, Bytes: over, Tags: []registry.Tag{"over"},
	})
	wantErr(t, "PutManifest of a byte too much", err, registry.ErrTooLarge)
	c.checkTag(t, "a", "over", "")
}

func testManifestManyTags(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	var tags []registry.Tag
	for i := range registry.MaxTagsPerPut + 1 {
		tags = append(tags, registry.Tag(fmt.Sprintf("t%02d", i)))
	}
	put := registry.ManifestPut{Digest: sha256of(data), MediaType: registry.TypeManifest, Bytes: data, Tags: tags}
	_, err := c.PutManifest(t.Context(), alice, "a", put)
	wantErr(t, "PutManifest with a tag too much", err, registry.ErrTooManyTags)
	c.checkNoManifest(t, "a", put.Digest)
	if got := c.tags(t, "a", 100); len(got) != 0 {
		t.Errorf("a refused put set tags: %v", got)
	}

	put.Tags = tags[:registry.MaxTagsPerPut]
	_, err = c.PutManifest(t.Context(), alice, "a", put)
	must(t, "PutManifest with all the tags it may have", err)
	if got := c.tags(t, "a", 100); !slices.Equal(got, put.Tags) {
		t.Errorf("Tags: got %v, want %v", got, put.Tags)
	}
	for _, tag := range put.Tags {
		c.checkTag(t, "a", tag, put.Digest)
	}

	// A tag named twice is one tag.
	d := c.image(t, "a", "2", "twice", "once", "twice")
	c.checkTag(t, "a", "twice", d)
	if got := c.history(t, "a", "twice", 10); len(got) != 1 {
		t.Errorf("TagHistory of a tag named twice in one put: %v", got)
	}
}

func testManifestRepeated(t *testing.T, b CatalogBackend) {
	c := b.open(t, CatalogOptions{})
	data := c.imageBytes(t, "a", "1")
	before := c.put(t, "a", registry.TypeManifest, data)
	for range 3 {
		c.put(t, "a", registry.TypeManifest, data, "t")
	}
	c.put(t, "a", registry.TypeManifest, data) // by digest: tags stay
	c.checkTag(t, "a", "t", before)
	if got := c.history(t, "a", "t", 10); len(got) != 1 {
		t.Errorf("TagHistory after the same put again: got %v, want one entry", got)
	}

	put := registry.ManifestPut{Digest: before, MediaType: registry.TypeManifest, Bytes: data, Tags: []registry.Tag{"t"}, If: registry.Condition{Match: before}}
	if _, err := c.PutManifest(t.Context(), alice, "a", put); err != nil {
		t.Errorf("PutManifest of what the tag points to, If-Match that: %v", err)
	}
	must(t, "DeleteManifest", c.DeleteManifest(t.Context(), alice, "a", before))
	c.checkNoManifest(t, "a", before)
	c.put(t, "a", registry.TypeManifest, data, "t")
	c.checkManifest(t, "a", registry.Reference{Tag: "t"}, registry.TypeManifest, data)
}
