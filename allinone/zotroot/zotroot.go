// Package zotroot makes directories as zot leaves them, for tests, and compares
// directories in all attributes.
package zotroot

import (
	"bytes"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/registry"
)

// Root is a directory that zot kept images in.
type Root struct {
	Dir string
	// Hot is the root of storage.subPaths "/hot".
	Hot string
	// Manifests must be readable by digest and by each of their tags.
	Manifests []Manifest
	// Blobs must be readable.
	Blobs []Blob
	// Repositories are the names of those that can be served.
	Repositories []string
	// Missing are manifests that can't be taken over, by repository.
	Missing map[string]digest.Digest

	rnd  *mrand.ChaCha8
	when time.Time
	base []byte            // a layer that many images share
	file map[string]string // the first file of a blob, by digest: others are links to it
	seq  int

	repos []*repository
}

// Manifest is a manifest that is expected.
type Manifest struct {
	Repo      string
	Digest    digest.Digest
	MediaType string
	Bytes     []byte
	Tags      []string
	Referrers []digest.Digest
}

// Blob is a blob that is expected.
type Blob struct {
	Repo   string
	Digest digest.Digest
}

// Make fills a new directory of t with repositories of each kind there is, images
// of each of them: hard links, indexes that lie in each other, referrers, tags of
// cosign, docker's media types, sha512, manifests without a tag, what is missing
// and what is damaged. seed decides on the bytes.
func Make(t testing.TB, seed uint64, images int) *Root {
	t.Helper()
	r := &Root{
		Dir: t.TempDir(), Hot: t.TempDir(), Missing: make(map[string]digest.Digest),
		rnd: mrand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16), byte(seed >> 24)}), when: time.Date(2024, 5, 1, 12, 0, 0, 123456789, time.UTC),
		file: make(map[string]string),
	}
	r.base = r.random(70_000)
	for i := range images {
		x := r.repo(r.Dir, fmt.Sprintf("library/app%d", i%5))
		x.image(registry.TypeManifest, fmt.Sprintf("v%d", i))
	}

	x := r.repo(r.Dir, "multi")
	inner := x.index(registry.TypeIndex, nil, x.image(registry.TypeManifest), x.image(registry.TypeManifest))
	x.index(registry.TypeIndex, []string{"latest", "1.0"}, inner, x.image(registry.TypeManifest))

	x = r.repo(r.Dir, "team/app/docker")
	x.index(registry.TypeDockerList, []string{"list"}, x.image(registry.TypeDockerManifest), x.image(registry.TypeDockerManifest, "amd64"))

	x = r.repo(r.Dir, "team/app") // above another one
	x.image(registry.TypeManifest, "latest", "stable")
	x.image(registry.TypeManifest) // no tag

	x = r.repo(r.Dir, "signed")
	subject := x.image(registry.TypeManifest, "v1")
	x.image(registry.TypeManifest, strings.Replace(subject.Digest.String(), ":", "-", 1)+".sig")
	x.referrer(subject, "application/spdx+json")
	x.referrer(subject, "application/vnd.example.signature")

	x = r.repo(r.Dir, "long")
	x.blob(digest.SHA512, []byte("layer under sha512"))
	x.put(registry.TypeManifest, x.manifest(registry.TypeManifest, digest.SHA512.FromBytes([]byte("layer under sha512")), len("layer under sha512")), "v1")

	x = r.repo(r.Dir, "broken")
	x.image(registry.TypeManifest, "good")
	x.image(registry.TypeManifest, "sparse")
	r.breakLayer(t, x)
	damaged := x.image(registry.TypeManifest, "damaged")
	r.damage(t, x, damaged)

	x = r.repo(r.Hot, "hot/cache")
	x.image(registry.TypeManifest, "v1")

	for _, x := range r.repos {
		x.writeIndex(t)
	}
	r.write(t, filepath.Join(r.Dir, "corrupt/index.json"), []byte(`{"schemaVersion":2,"manif`))
	r.write(t, filepath.Join(r.Dir, "corrupt/oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	r.write(t, filepath.Join(r.Dir, "library/app0/.uploads/0af1"), []byte("half an upload"))
	r.write(t, filepath.Join(r.Dir, "cache.db"), []byte("bolt"))
	r.write(t, filepath.Join(r.Dir, "meta.db"), []byte("bolt"))
	r.write(t, filepath.Join(r.Dir, "_trivy/db/trivy.db"), []byte("trivy"))
	r.age(t, r.Dir)
	r.age(t, r.Hot)
	return r
}

// repository is one that is being made.
type repository struct {
	r      *Root
	root   string
	name   string
	listed imgspec.Index // index.json
}

func (r *Root) repo(root, name string) *repository {
	for _, x := range r.repos {
		if x.name == name {
			return x
		}
	}
	x := &repository{r: r, root: root, name: name}
	x.listed.SchemaVersion = 2
	r.repos = append(r.repos, x)
	r.Repositories = append(r.Repositories, name)
	return x
}

func (r *Root) random(n int) []byte {
	b := make([]byte, n)
	r.rnd.Read(b)
	return b
}

func (r *Root) write(t testing.TB, path string, b []byte) {
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, b, 0o644))
}

func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// age gives all files times that tell if they are touched.
func (r *Root) age(t testing.TB, root string) {
	must(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		r.when = r.when.Add(time.Second)
		return os.Chtimes(path, r.when, r.when)
	}))
}

func (x *repository) path(d digest.Digest) string {
	return filepath.Join(x.root, x.name, "blobs", string(d.Algorithm()), d.Encoded())
}

// blob writes a blob, as a link if there is a file of it already.
func (x *repository) blob(alg digest.Algorithm, b []byte) digest.Digest {
	d := alg.FromBytes(b)
	path := x.path(d)
	if _, err := os.Stat(path); err == nil {
		return d
	}
	check(os.MkdirAll(filepath.Dir(path), 0o755))
	key := x.root + d.String()
	if first := x.r.file[key]; first != "" {
		check(os.Link(first, path))
	} else {
		check(os.WriteFile(path, b, 0o600))
		x.r.file[key] = path
	}
	return d
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// manifest returns a manifest with the shared layer and one more.
func (x *repository) manifest(mediaType string, layer digest.Digest, size int) map[string]any {
	x.r.seq++
	config := fmt.Appendf(nil, `{"n":%d}`, x.r.seq)
	c := x.blob(digest.SHA256, config)
	base := x.blob(digest.SHA256, x.r.base)
	for _, d := range []digest.Digest{c, base, layer} {
		x.r.Blobs = append(x.r.Blobs, Blob{x.name, d})
	}
	return map[string]any{
		"schemaVersion": 2, "mediaType": mediaType,
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": c, "size": len(config)},
		"layers": []any{
			map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": base, "size": len(x.r.base)},
			map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": size},
		},
	}
}

func (x *repository) image(mediaType string, tags ...string) imgspec.Descriptor {
	layer := x.r.random(5000)
	return x.put(mediaType, x.manifest(mediaType, x.blob(digest.SHA256, layer), len(layer)), tags...)
}

// index puts an index. What it lists is not in index.json of its own, unless it
// has tags.
func (x *repository) index(mediaType string, tags []string, children ...imgspec.Descriptor) imgspec.Descriptor {
	for _, c := range children {
		x.unlist(c.Digest)
	}
	return x.put(mediaType, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": children}, tags...)
}

// unlist takes entries without a tag out of index.json.
func (x *repository) unlist(d digest.Digest) {
	kept := x.listed.Manifests[:0]
	for _, e := range x.listed.Manifests {
		if e.Digest != d || e.Annotations != nil {
			kept = append(kept, e)
		}
	}
	x.listed.Manifests = kept
}

func (x *repository) referrer(subject imgspec.Descriptor, artifactType string) {
	layer := x.r.random(500)
	m := x.manifest(registry.TypeManifest, x.blob(digest.SHA256, layer), len(layer))
	m["artifactType"], m["subject"] = artifactType, map[string]any{"mediaType": subject.MediaType, "digest": subject.Digest, "size": subject.Size}
	d := x.put(registry.TypeManifest, m)
	for i := range x.r.Manifests {
		if y := &x.r.Manifests[i]; y.Repo == x.name && y.Digest == subject.Digest {
			y.Referrers = append(y.Referrers, d.Digest)
		}
	}
}

// put writes a manifest and lists it in index.json.
func (x *repository) put(mediaType string, m map[string]any, tags ...string) imgspec.Descriptor {
	b, err := json.Marshal(m)
	check(err)
	d := imgspec.Descriptor{MediaType: mediaType, Digest: x.blob(digest.SHA256, b), Size: int64(len(b))}
	x.r.Manifests = append(x.r.Manifests, Manifest{Repo: x.name, Digest: d.Digest, MediaType: mediaType, Bytes: b, Tags: tags})
	if len(tags) == 0 {
		x.listed.Manifests = append(x.listed.Manifests, d)
	}
	for _, t := range tags {
		e := d
		e.Annotations = map[string]string{imgspec.AnnotationRefName: t}
		x.listed.Manifests = append(x.listed.Manifests, e)
	}
	return d
}

func (x *repository) writeIndex(t testing.TB) {
	t.Helper()
	b, err := json.Marshal(x.listed)
	must(t, err)
	dir := filepath.Join(x.root, x.name)
	x.r.write(t, filepath.Join(dir, "index.json"), b)
	x.r.write(t, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

// breakLayer removes the last layer of an image.
func (r *Root) breakLayer(t testing.TB, x *repository) {
	last := r.Blobs[len(r.Blobs)-1]
	must(t, os.Remove(x.path(last.Digest)))
	r.Blobs = r.Blobs[:len(r.Blobs)-1]
}

// damage changes the bytes of a manifest.
func (r *Root) damage(t testing.TB, x *repository, d imgspec.Descriptor) {
	b, err := os.ReadFile(x.path(d.Digest))
	must(t, err)
	must(t, os.WriteFile(x.path(d.Digest), bytes.ToUpper(b), 0o600))
	r.Missing[x.name] = d.Digest
	r.Manifests = r.Manifests[:len(r.Manifests)-1]
	r.Blobs = r.Blobs[:len(r.Blobs)-3]
}

// Index changes the index.json of a repository, as zot would.
func (r *Root) Index(t testing.TB, repo string, change func(*imgspec.Index)) {
	t.Helper()
	path := filepath.Join(r.Dir, repo, "index.json")
	b, err := os.ReadFile(path)
	must(t, err)
	var index imgspec.Index
	must(t, json.Unmarshal(b, &index))
	change(&index)
	b, err = json.Marshal(index)
	must(t, err)
	must(t, os.WriteFile(path, b, 0o644))
}
