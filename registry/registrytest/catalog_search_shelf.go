package registrytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// shelf is a catalog with images whose configs can be read.
type shelf struct {
	*catalog
	blobs *memory.Blobs
}

func openShelf(t *testing.T, b CatalogBackend, o CatalogOptions) *shelf {
	t.Helper()
	s := &shelf{blobs: memory.NewBlobs(o.Pools...)}
	o.Reaper = s.blobs
	s.catalog = b.open(t, o)
	return s
}

// store stores data and makes it known in repo.
func (s *shelf) store(t *testing.T, repo registry.Name, data []byte) {
	t.Helper()
	u, err := s.blobs.Start(t.Context(), registry.PoolOf(repo, s.options.Pools), registry.SHA256)
	must(t, "Start", err)
	stored, err := s.blobs.Commit(t.Context(), u, bytes.NewReader(data), sha256of(data))
	must(t, "Commit", err)
	_, err = s.Link(t.Context(), alice, repo, stored)
	must(t, "Link", err)
}

// shelved is an image to push: built at an hour of 2024, for a platform, of layers.
type shelved struct {
	hour     int
	platform string
	layers   []string
	notes    map[string]string // annotations
}

func (x shelved) time() int64 {
	return time.Date(2024, 1, 1, x.hour, 0, 0, 0, time.UTC).UnixMicro()
}

func (x shelved) config() []byte {
	os, arch, _ := strings.Cut(x.platform, "/")
	return object{
		"created": time.UnixMicro(x.time()).UTC().Format(time.RFC3339), "os": os, "architecture": arch, "author": "somebody",
		"config":  object{"Labels": map[string]string{"maintainer": "somebody"}},
		"history": []object{{"created_by": "RUN " + x.platform}}, "rootfs": object{"type": "layers"},
	}.bytes()
}

// build stores what an image needs, and returns its manifest.
func (s *shelf) build(t *testing.T, repo registry.Name, x shelved) []byte {
	t.Helper()
	var layers [][]byte
	s.store(t, repo, x.config())
	for _, l := range x.layers {
		s.store(t, repo, []byte(l))
		layers = append(layers, []byte(l))
	}
	m := image(x.config(), layers...)
	if x.notes != nil {
		m["annotations"] = x.notes
	}
	return m.bytes()
}

func (s *shelf) push(t *testing.T, repo registry.Name, x shelved, tags ...registry.Tag) registry.Digest {
	t.Helper()
	return s.put(t, repo, registry.TypeManifest, s.build(t, repo, x), tags...)
}

// find searches for images and returns their names, in pages of limit.
func (s *shelf) find(t *testing.T, a registry.Actor, limit int, q registry.ImageQuery) []string {
	t.Helper()
	names := []string{}
	for q.Limit = limit; ; q.Offset += limit {
		found, err := s.SearchImages(t.Context(), a, q)
		must(t, "SearchImages", err)
		for _, i := range found.Items {
			names = append(names, fmt.Sprintf("%s:%s", i.Repository, i.Tag))
		}
		if len(found.Items) > limit || found.Total < len(names) {
			t.Fatalf("a page of %d has %d images of %d", limit, len(found.Items), found.Total)
		}
		if q.Offset+limit >= found.Total {
			if len(names) != found.Total {
				t.Fatalf("there are %d images, and pages of %d have %d", found.Total, limit, len(names))
			}
			return names
		}
	}
}

// settle waits until the configs of all images were read.
func (s *shelf) settle(t *testing.T) {
	t.Helper()
	eventually(t, "reading configs", func() bool {
		found, err := s.SearchImages(t.Context(), alice, registry.ImageQuery{Limit: registry.MaxSearch, Detail: registry.DetailContent})
		must(t, "SearchImages", err)
		return !slices.ContainsFunc(found.Items, func(i registry.FoundImage) bool {
			unread := func(m registry.FoundManifest) bool {
				return m.Config == nil && bytes.Contains(m.Bytes, []byte(typeConfig))
			}
			index := i.MediaType == registry.TypeIndex && i.Created >= i.Pushed && len(i.Manifests) > 0
			return index || unread(i.FoundManifest) || slices.ContainsFunc(i.Manifests, unread)
		})
	})
}

// fillShelf pushes the images that tests look for.
func fillShelf(t *testing.T, s *shelf) map[string]registry.Digest {
	t.Helper()
	d := map[string]registry.Digest{}
	d["base"] = s.push(t, "base/debian", shelved{1, "linux/amd64", []string{"rootfs"}, nil}, "12", "latest")
	d["app"] = s.push(t, "team/app", shelved{5, "linux/amd64", []string{"rootfs", "app"}, map[string]string{"org.opencontainers.image.vendor": "Acme"}}, "v1.0")
	d["app2"] = s.push(t, "team/app", shelved{6, "linux/arm64", []string{"rootfs", "app", "more"}, nil}, "v2.0")
	d["same"] = s.push(t, "team/other", shelved{2, "windows/amd64", []string{"rootfs"}, nil}, "V1")
	d["none"] = s.push(t, "zoo", shelved{3, "linux/amd64", nil, nil}, "empty")
	// An index, one of whose manifests is derived from the base.
	one := s.build(t, "multi", shelved{4, "linux/amd64", []string{"rootfs", "multi"}, nil})
	two := s.build(t, "multi", shelved{7, "linux/riscv64", []string{"another"}, nil})
	d["multi1"], d["multi2"] = s.put(t, "multi", registry.TypeManifest, one), s.put(t, "multi", registry.TypeManifest, two)
	d["multi"] = s.put(t, "multi", registry.TypeIndex, indexOf(descriptor(registry.TypeManifest, one), descriptor(registry.TypeManifest, two)), "all")
	// Signatures, by both schemes.
	s.put(t, "team/app", registry.TypeManifest, s.signature(t, "team/app", d["app"]))
	s.put(t, "base/debian", registry.TypeManifest, s.build(t, "base/debian", shelved{9, "linux/amd64", []string{"signature"}, nil}), registry.SignatureTag(d["base"]))
	s.settle(t)
	return d
}

func (s *shelf) signature(t *testing.T, repo registry.Name, subject registry.Digest) []byte {
	t.Helper()
	s.store(t, repo, []byte("{}"))
	return referrer(subject, "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("{}")).bytes()
}

func ref[T any](v T) *T { return &v }
