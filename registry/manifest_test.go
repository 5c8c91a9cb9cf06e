package registry_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/berth-registry/berth/registry"
)

const (
	configType = "application/vnd.oci.image.config.v1+json"
	layerType  = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// desc returns a descriptor of something called name, as JSON.
func desc(mediaType, name string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digestOf(name), len(name))
}

func digestOf(name string) registry.Digest { return registry.SHA256.FromString(name) }

// members joins members to a manifest of schema version 2.
func members(m ...string) string {
	return `{"schemaVersion":2,` + strings.Join(m, ",") + `}`
}

func ref(name string, manifest, optional bool) registry.ManifestReference {
	return registry.ManifestReference{Digest: digestOf(name), Size: int64(len(name)), Manifest: manifest, Optional: optional}
}

func TestParseManifest(t *testing.T) {
	config := `"config":` + desc(configType, "config")
	long := registry.SHA512.FromString("long")
	for _, m := range []struct {
		what, mediaType, text string
		want                  registry.ManifestInfo
	}{
		{
			"OCI image", registry.TypeManifest,
			members(`"mediaType":"`+registry.TypeManifest+`"`, config, `"layers":[`+desc(layerType, "l1")+`,`+desc(layerType, "l2")+`]`, `"annotations":{"a":"1"}`),
			registry.ManifestInfo{ArtifactType: configType, Annotations: map[string]string{"a": "1"}, References: []registry.ManifestReference{
				ref("config", false, false), ref("l1", false, false), ref("l2", false, false)}},
		},
		{
			"OCI image without mediaType, layers and sense", registry.TypeManifest, members(config, `"unknown":{"a":[1,{}]}`, `"layers":null`),
			registry.ManifestInfo{ArtifactType: configType, References: []registry.ManifestReference{ref("config", false, false)}},
		},
		{
			"docker image", registry.TypeDockerManifest,
			members(`"mediaType":"`+registry.TypeDockerManifest+`"`, `"config":`+desc("application/vnd.docker.container.image.v1+json", "config"),
				`"layers":[`+desc("application/vnd.docker.image.rootfs.diff.tar.gzip", "l")+`,`+desc("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "f")+`]`),
			registry.ManifestInfo{ArtifactType: "application/vnd.docker.container.image.v1+json", References: []registry.ManifestReference{
				ref("config", false, false), ref("l", false, false), ref("f", false, true)}},
		},
		{
			"artifact with subject", registry.TypeManifest,
			members(`"artifactType":"application/spdx+json"`, config, `"layers":[]`, `"subject":`+desc(registry.TypeIndex, "subject")),
			registry.ManifestInfo{ArtifactType: "application/spdx+json", Subject: digestOf("subject"), References: []registry.ManifestReference{ref("config", false, false)}},
		},
		{
			"OCI index", registry.TypeIndex,
			members(`"artifactType":"x/y"`, `"manifests":[`+desc(registry.TypeManifest, "m1")+`,`+desc(registry.TypeDockerManifest, "m2")+`,`+desc(registry.TypeIndex, "i")+`]`, `"subject":`+desc(registry.TypeManifest, "subject")),
			registry.ManifestInfo{ArtifactType: "x/y", Subject: digestOf("subject"), References: []registry.ManifestReference{
				ref("m1", true, false), ref("m2", true, false), ref("i", true, false)}},
		},
		{
			"empty index", registry.TypeIndex, members(`"manifests":[]`), registry.ManifestInfo{},
		},
		{
			"docker list", registry.TypeDockerList, members(`"mediaType":"`+registry.TypeDockerList+`"`, `"manifests":[`+desc(registry.TypeDockerManifest, "m")+`]`),
			registry.ManifestInfo{References: []registry.ManifestReference{ref("m", true, false)}},
		},
		{
			"buildkit cache", registry.TypeIndex, members(`"manifests":[` + desc(layerType, "l") + `,` + desc("application/vnd.buildkit.cacheconfig.v0", "c") + `]`),
			registry.ManifestInfo{References: []registry.ManifestReference{ref("l", true, false), ref("c", true, false)}},
		},
		{
			"one digest often, once as a foreign layer", registry.TypeManifest,
			members(config, `"layers":[`+strings.Join([]string{
				desc("application/vnd.oci.image.layer.nondistributable.v1.tar", "l"), desc(layerType, "l"), desc(layerType, "config"),
				desc("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", "f"), desc("application/vnd.oci.image.layer.nondistributable.v1.tar", "f"),
			}, ",")+`]`),
			registry.ManifestInfo{ArtifactType: configType, References: []registry.ManifestReference{
				ref("config", false, false), ref("l", false, false), ref("f", false, true)}},
		},
		{
			"sha512", registry.TypeManifest, members(`"config":{"mediaType":"x/y","digest":"`+long.String()+`","size":0}`, `"layers":[]`),
			registry.ManifestInfo{ArtifactType: "x/y", References: []registry.ManifestReference{{Digest: long}}},
		},
	} {
		m.want.MediaType = m.mediaType
		got, err := registry.ParseManifest(m.mediaType, []byte(m.text))
		if err != nil {
			t.Errorf("%s: %v", m.what, err)
			continue
		}
		if diff := cmp.Diff(m.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: -want +got\n%s", m.what, diff)
		}
	}
}

func TestParseManifestTypes(t *testing.T) {
	text := []byte(members(`"config":`+desc(configType, "config"), `"layers":[]`))
	for _, m := range []struct {
		mediaType string
		want      error
		hint      string // what the message must say
	}{
		{"", registry.ErrManifestInvalid, "Content-Type"},
		{"application/json", registry.ErrMediaTypeUnsupported, ""},
		{"application/vnd.docker.distribution.manifest.v1+json", registry.ErrMediaTypeUnsupported, "schema 1"},
		{"application/vnd.docker.distribution.manifest.v1+prettyjws", registry.ErrMediaTypeUnsupported, "skopeo"},
		{"application/vnd.oci.artifact.manifest.v1+json", registry.ErrManifestInvalid, "artifactType"},
		{"application/vnd.cncf.oras.artifact.manifest.v1+json", registry.ErrManifestInvalid, "artifactType"},
		// Parameters and letter case are the gateway's to take away.
		{registry.TypeManifest + "; charset=utf-8", registry.ErrMediaTypeUnsupported, ""},
		{strings.ToUpper(registry.TypeManifest), registry.ErrMediaTypeUnsupported, ""},
		{configType, registry.ErrMediaTypeUnsupported, ""},
	} {
		_, err := registry.ParseManifest(m.mediaType, text)
		if !errors.Is(err, m.want) {
			t.Errorf("type %q: got error %v, want %v", m.mediaType, err, m.want)
		} else if !strings.Contains(registry.AsError(err).Text(), m.hint) {
			t.Errorf("type %q: %q does not say %q", m.mediaType, err, m.hint)
		}
	}
}

func TestManifestDescriptor(t *testing.T) {
	info, err := registry.ParseManifest(registry.TypeManifest, []byte(members(`"config":`+desc("x/y", "config"), `"annotations":{"a":"1"}`)))
	if err != nil {
		t.Fatal(err)
	}
	got := info.Descriptor(digestOf("m"), 7)
	want := registry.Descriptor{MediaType: registry.TypeManifest, Digest: digestOf("m"), Size: 7, ArtifactType: "x/y", Annotations: map[string]string{"a": "1"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	got.Annotations["a"] = "2"
	if info.Annotations["a"] != "1" {
		t.Error("the descriptor shares its annotations with the manifest")
	}
}
