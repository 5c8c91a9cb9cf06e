//go:build e2e

package e2e

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	cacheConfigType   = "application/vnd.buildkit.cacheconfig.v0"
	attestationType   = "application/vnd.in-toto+json"
	attestationMarker = "vnd.docker.reference.type"
)

// buildkitCells speak the wire form of BuildKit's registry cache and of buildx
// attestations: what its exporter sends, request by request, and what its
// importer asks for.
func buildkitCells(t *testing.T, c contents) []cell {
	const client = "BuildKit (wire form)"
	asIndex, asManifest, attested := cacheIndex(t), cacheManifest(t), withAttestation(t, c.image)
	run, regctl := NewCommands(t), Client(t, "regctl")
	pulled := containersCommands(t)
	return []cell{{
		client: client, content: "cache, index form",
		proof: "index whose children are layers and the cache config: pushed, pulled, equal; a child blob cannot be deleted before the index, and can after",
		run:   func(t *testing.T, s *System) { testCache(t, s, "buildkit/cache-index", asIndex) },
	}, {
		client: client, content: "cache, manifest form",
		proof: "image manifest whose config is the cache config: pushed, pulled, equal; the same rules of delete",
		run:   func(t *testing.T, s *System) { testCache(t, s, "buildkit/cache-manifest", asManifest) },
	}, {
		client: client, content: "attestations",
		proof: "index with an `unknown/unknown` child: read back with its annotations, listed by crane and regctl; podman pulls the image, id equal; no child can be deleted before the index",
		run: func(t *testing.T, s *System) {
			const repo = "buildkit/attested"
			s.pushLayout(t, repo, attested)
			readBack(t, s, repo, "1", attested.root.Digest)
			ref := s.Addr + "/" + repo + ":1"
			if said := run.Run(t, Client(t, "crane"), "manifest", "--insecure", ref); !strings.Contains(said, attestationMarker) {
				t.Errorf("the attestation has lost its annotations:\n%s", said)
			}
			run.Run(t, regctl, "registry", "set", "--tls", "disabled", s.Addr)
			if said := run.Run(t, regctl, "manifest", "get", ref); !strings.Contains(said, "unknown/unknown") {
				t.Errorf("regctl does not list the attestation:\n%s", said)
			}
			id := pulled.Run(t, "/usr/bin/podman", "pull", "-q", "--tls-verify=false", ref)
			var config digest.Digest
			for _, child := range children(t, c.image.read(t, c.image.root.Digest)) {
				if strings.Contains(child.MediaType, "config") {
					config = child.Digest
				}
			}
			if id != config.Encoded() {
				t.Errorf("podman pulled image %s, want %s", id, config.Encoded())
			}
			pulled.Run(t, "/usr/bin/podman", "rmi", "-f", id)
			// Neither can be taken out of the index.
			for _, child := range children(t, attested.read(t, attested.root.Digest)) {
				s.expect(t, http.StatusMethodNotAllowed, http.MethodDelete, "/v2/"+repo+"/manifests/"+string(child.Digest))
			}
		},
	}}
}

// testCache exports and imports a cache and then takes it apart.
func testCache(t *testing.T, s *System, repo string, l layout) {
	base := "/v2/" + repo
	s.pushLayout(t, repo, l)
	s.pushLayout(t, repo, l) // the next build exports the same cache

	// The importer asks for the tag's digest, the manifest by it, and then the blobs.
	head := s.expect(t, http.StatusOK, http.MethodHead, base+"/manifests/1")
	if got := digest.Digest(head.header.Get("Docker-Content-Digest")); got != l.root.Digest {
		t.Errorf("the tag is %s, pushed was %s", got, l.root.Digest)
	}
	root := s.expect(t, http.StatusOK, http.MethodGet, base+"/manifests/"+string(l.root.Digest))
	if sha256Of(root.body) != l.root.Digest || root.header.Get("Content-Type") != l.root.MediaType {
		t.Errorf("the root reads as %s %s", root.header.Get("Content-Type"), sha256Of(root.body))
	}
	_, blobs := l.walk(t)
	for _, d := range blobs {
		if got := s.get(t, base+"/blobs/"+string(d.Digest)); !bytes.Equal(got, l.read(t, d.Digest)) {
			t.Errorf("blob %s differs from what was pushed", d.Digest)
		}
		// A blob that an index names is no manifest for that.
		s.gone(t, base+"/manifests/"+string(d.Digest))
		s.expect(t, http.StatusMethodNotAllowed, http.MethodDelete, base+"/blobs/"+string(d.Digest))
	}
	// containerd's fetcher, which BuildKit uses, may ask for a manifest among the blobs.
	if got := s.get(t, base+"/blobs/"+string(l.root.Digest)); sha256Of(got) != l.root.Digest {
		t.Errorf("the root among the blobs reads as %s", sha256Of(got))
	}

	s.expect(t, http.StatusAccepted, http.MethodDelete, base+"/manifests/"+string(l.root.Digest))
	s.gone(t, base+"/manifests/1", base+"/manifests/"+string(l.root.Digest))
	for _, d := range blobs {
		s.expect(t, http.StatusAccepted, http.MethodDelete, base+"/blobs/"+string(d.Digest))
		s.gone(t, base+"/blobs/"+string(d.Digest))
	}
	if a := s.ask(t, http.MethodPut, base+"/manifests/1", l.root.MediaType, l.read(t, l.root.Digest)); a.status != http.StatusBadRequest {
		t.Errorf("the root without its blobs is answered %d %s", a.status, a.body)
	}
	s.pushLayout(t, repo, l)
	readBack(t, s, repo, "1", l.root.Digest)
}

// cacheBlobs adds what both forms of a cache are made of.
func cacheBlobs(t *testing.T, l layout) (layers []image.Descriptor, config image.Descriptor) {
	t.Helper()
	for range 2 {
		layer := l.add(t, image.MediaTypeImageLayerGzip, random(t, 1<<20))
		layer.Annotations = map[string]string{
			"buildkit/createdat":         "2026-01-01T00:00:00Z",
			"containerd.io/uncompressed": string(sha256Of([]byte(layer.Digest))),
		}
		layers = append(layers, layer)
	}
	type result struct {
		Layer     int    `json:"layer"`
		CreatedAt string `json:"createdAt"`
	}
	config = l.add(t, cacheConfigType, asJSON(t, map[string]any{
		"layers": []map[string]any{
			{"blob": layers[0].Digest, "parent": -1}, {"blob": layers[1].Digest, "parent": 0},
		},
		"records": []map[string]any{{
			"digest":  sha256Of([]byte("a step of the build")),
			"layers":  []result{{Layer: 1, CreatedAt: "2026-01-01T00:00:00Z"}},
			"created": "2026-01-01T00:00:00Z",
		}},
	}))
	return layers, config
}

// cacheIndex is the older form, still BuildKit's default: an index that names blobs.
func cacheIndex(t *testing.T) layout {
	t.Helper()
	l := newLayout(t)
	layers, config := cacheBlobs(t, l)
	list := image.Index{MediaType: image.MediaTypeImageIndex, Manifests: append(slices.Clone(layers), config)}
	list.SchemaVersion = 2
	l.root = l.add(t, image.MediaTypeImageIndex, asJSON(t, list))
	return l
}

// cacheManifest is the form of `image-manifest=true`.
func cacheManifest(t *testing.T) layout {
	t.Helper()
	l := newLayout(t)
	layers, config := cacheBlobs(t, l)
	manifest := image.Manifest{MediaType: image.MediaTypeImageManifest, Config: config, Layers: layers}
	manifest.SchemaVersion = 2
	l.root = l.add(t, image.MediaTypeImageManifest, asJSON(t, manifest))
	return l
}

// withAttestation is an index of an image and its attestation, as buildx makes it.
func withAttestation(t *testing.T, of layout) layout {
	t.Helper()
	l := newLayout(t)
	manifests, blobs := of.walk(t)
	for _, d := range slices.Concat(manifests, blobs) {
		l.add(t, d.MediaType, of.read(t, d.Digest))
	}
	statement := l.add(t, attestationType, []byte(`{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://slsa.dev/provenance/v0.2"}`))
	statement.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	manifest := image.Manifest{
		MediaType: image.MediaTypeImageManifest,
		Config: l.add(t, image.MediaTypeImageConfig, asJSON(t, map[string]any{
			"architecture": "unknown", "os": "unknown", "config": map[string]any{},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []digest.Digest{statement.Digest}},
		})),
		Layers: []image.Descriptor{statement},
	}
	manifest.SchemaVersion = 2
	attestation := l.add(t, image.MediaTypeImageManifest, asJSON(t, manifest))
	attestation.Platform = &image.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{
		attestationMarker:             "attestation-manifest",
		"vnd.docker.reference.digest": string(of.root.Digest),
	}
	main := of.root
	main.Platform = &image.Platform{OS: "linux", Architecture: "amd64"}
	list := image.Index{MediaType: image.MediaTypeImageIndex, Manifests: []image.Descriptor{main, attestation}}
	list.SchemaVersion = 2
	l.root = l.add(t, image.MediaTypeImageIndex, asJSON(t, list))
	return l
}
