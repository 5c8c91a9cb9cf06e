package metadata_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/berth-registry/berth/registry"
)

var alice = registry.Actor{ID: "alice"}

// blob is made-up content that is not stored anywhere: the catalog never looks.
func blob(text string) registry.Stored {
	d := registry.SHA256.FromString(text)
	return registry.Stored{Digest: d, Size: int64(len(text)), Locator: registry.Locator("copy of " + text)}
}

func descriptor(mediaType string, s registry.Stored) registry.Descriptor {
	return registry.Descriptor{MediaType: mediaType, Digest: s.Digest, Size: s.Size}
}

// image returns a manifest with the given content, to be pushed with tags.
func image(config registry.Stored, layers []registry.Stored, tags ...registry.Tag) registry.ManifestPut {
	m := map[string]any{
		"schemaVersion": 2,
		"mediaType":     registry.TypeManifest,
		"config":        descriptor("application/vnd.oci.image.config.v1+json", config),
	}
	var list []registry.Descriptor
	for _, l := range layers {
		list = append(list, descriptor("application/vnd.oci.image.layer.v1.tar+gzip", l))
	}
	m["layers"] = list
	return encode(registry.TypeManifest, m, tags)
}

// index returns an index of the given manifests.
func index(children []registry.ManifestPut, tags ...registry.Tag) registry.ManifestPut {
	list := []registry.Descriptor{}
	for _, c := range children {
		list = append(list, registry.Descriptor{MediaType: c.MediaType, Digest: c.Digest, Size: int64(len(c.Bytes))})
	}
	return encode(registry.TypeIndex, map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeIndex, "manifests": list,
	}, tags)
}

// referrer returns an artifact of a type that refers to subject.
func referrer(config registry.Stored, artifactType string, subject registry.ManifestPut) registry.ManifestPut {
	return encode(registry.TypeManifest, map[string]any{
		"schemaVersion": 2,
		"mediaType":     registry.TypeManifest,
		"artifactType":  artifactType,
		"config":        descriptor("application/vnd.oci.empty.v1+json", config),
		"layers":        []registry.Descriptor{},
		"subject":       registry.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: int64(len(subject.Bytes))},
		"annotations":   map[string]string{"kind": artifactType},
	}, nil)
}

func encode(mediaType string, m map[string]any, tags []registry.Tag) registry.ManifestPut {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return registry.ManifestPut{Digest: registry.SHA256.FromBytes(b), MediaType: mediaType, Bytes: b, Tags: tags}
}

// pushImage links the content of a small image that differs by name, pushes it,
// and returns its manifest.
func pushImage(t testing.TB, c registry.Catalog, repo registry.Name, name string, tags ...registry.Tag) registry.ManifestPut {
	t.Helper()
	config, layer := blob("config of "+name), blob("layer of "+name)
	for _, s := range []registry.Stored{config, layer} {
		if _, err := c.Link(t.Context(), alice, repo, s); err != nil {
			t.Fatalf("linking %s: %v", name, err)
		}
	}
	m := image(config, []registry.Stored{layer}, tags...)
	put(t, c, repo, m)
	return m
}

func put(t testing.TB, c registry.Catalog, repo registry.Name, m registry.ManifestPut) {
	t.Helper()
	if _, err := c.PutManifest(t.Context(), alice, repo, m); err != nil {
		t.Fatalf("PutManifest: %v", err)
	}
}

// tagged returns what a tag points to, "" if there is no such tag.
func tagged(t testing.TB, c registry.Catalog, repo registry.Name, tag registry.Tag) registry.Digest {
	t.Helper()
	m, err := c.Manifest(t.Context(), alice, repo, registry.ManifestQuery{Ref: registry.Reference{Tag: tag}})
	if errors.Is(err, registry.ErrManifestUnknown) {
		return ""
	}
	if err != nil {
		t.Fatalf("Manifest: %v", err)
	}
	return m.Digest
}

func wantErr(t testing.TB, what string, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

func tagNumber(n int) registry.Tag { return registry.Tag(fmt.Sprintf("v%05d", n)) }
