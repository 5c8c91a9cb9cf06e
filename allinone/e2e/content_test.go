//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// A layout is an OCI image layout on disk with one entry, tagged "1".
type layout struct {
	dir  string
	root image.Descriptor
}

// contents are the three kinds of things that the matrix pushes.
type contents struct {
	image, index, artifact layout
}

const artifactType = "application/vnd.berth.example.v1"

// makeContents builds real images with the engine at dockerHost, for two
// architectures, and an artifact with a file that is no layer.
func makeContents(t *testing.T, dockerHost string) contents {
	t.Helper()
	run := NewCommands(t, "DOCKER_HOST="+dockerHost)
	build := buildContext(t)
	both := filepath.Join(t.TempDir(), "both")
	for _, arch := range []string{"amd64", "arm64"} {
		tag := "content:" + arch
		buildImage(t, dockerHost, build, arch, tag, "content")
		run.Run(t, "skopeo", "copy", "-q", "--src-daemon-host", dockerHost, "docker-daemon:"+tag, "oci:"+both+":"+arch)
	}
	entries := readIndex(t, both).Manifests
	if len(entries) != 2 {
		t.Fatalf("the images' layout has %d entries, want 2", len(entries))
	}
	var c contents
	c.image = layout{dir: both + "-image", root: entries[0]}
	c.index = layout{dir: both + "-index"}
	for _, l := range []layout{c.image, c.index} {
		if err := os.CopyFS(l.dir, os.DirFS(both)); err != nil {
			t.Fatal(err)
		}
	}
	c.image.seal(t)

	list := image.Index{MediaType: image.MediaTypeImageIndex}
	list.SchemaVersion = 2
	for i, arch := range []string{"amd64", "arm64"} {
		entry := image.Descriptor{MediaType: entries[i].MediaType, Digest: entries[i].Digest, Size: entries[i].Size}
		entry.Platform = &image.Platform{OS: "linux", Architecture: arch}
		list.Manifests = append(list.Manifests, entry)
	}
	c.index.root = c.index.add(t, image.MediaTypeImageIndex, asJSON(t, list))
	c.index.seal(t)

	c.artifact = newLayout(t)
	doc := c.artifact.add(t, "application/json", []byte(`{"warehouse": "north", "pallets": 12}`))
	doc.Annotations = map[string]string{image.AnnotationTitle: "pallets.json"}
	manifest := image.Manifest{
		MediaType:    image.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       c.artifact.add(t, image.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []image.Descriptor{doc, c.artifact.add(t, "application/octet-stream", random(t, 3<<20))},
	}
	manifest.SchemaVersion = 2
	c.artifact.root = c.artifact.add(t, image.MediaTypeImageManifest, asJSON(t, manifest))
	c.artifact.seal(t)
	return c
}

// buildContext makes a directory to build images from: a root file system of
// the files of some Debian packages, a static program for each architecture,
// and a file that does not compress.
func buildContext(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	list, err := exec.Command("dpkg", "-L", "base-files", "netbase", "libc-bin").Output()
	if err != nil {
		t.Fatalf("listing the files of Debian packages: %v", err)
	}
	for path := range strings.Lines(string(list)) {
		path = strings.TrimSpace(path)
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		target := filepath.Join(dir, "rootfs", path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(target, data, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	for _, arch := range []string{"amd64", "arm64"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "hello-"+arch), "./testdata/hello")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building the images' program: %v\n%s", err, out)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stock.bin"), random(t, 12<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	const dockerfile = `FROM scratch
ARG TARGETARCH
COPY rootfs /
COPY stock.bin /srv/stock.bin
COPY hello-${TARGETARCH} /hello
ENTRYPOINT ["/hello"]
`
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildImage builds the context for one architecture. The label makes the
// image, and so its id, different from those of other cells.
func buildImage(t *testing.T, dockerHost, context, arch, tag, label string, more ...string) {
	t.Helper()
	run := NewCommands(t, "DOCKER_HOST="+dockerHost, "DOCKER_BUILDKIT=1")
	args := []string{"build", "-q", "--network", "none", "--platform", "linux/" + arch, "--label", "cell=" + label}
	for _, l := range more {
		args = append(args, "--label", l)
	}
	run.Run(t, docker, append(args, "-t", tag, context)...)
}

// newLayout makes a layout without entries.
func newLayout(t *testing.T) layout {
	t.Helper()
	l := layout{dir: filepath.Join(t.TempDir(), "layout")}
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	return l
}

// add stores a blob in the layout.
func (l layout) add(t *testing.T, mediaType string, data []byte) image.Descriptor {
	t.Helper()
	d := digest.FromBytes(data)
	if err := os.WriteFile(l.blob(d), data, 0o644); err != nil {
		t.Fatal(err)
	}
	return image.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// seal writes the layout's index.json with its root as the only entry.
func (l layout) seal(t *testing.T) {
	t.Helper()
	root := l.root
	root.Annotations = map[string]string{image.AnnotationRefName: "1"}
	list := image.Index{MediaType: image.MediaTypeImageIndex, Manifests: []image.Descriptor{root}}
	list.SchemaVersion = 2
	if err := os.WriteFile(filepath.Join(l.dir, "index.json"), asJSON(t, list), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (l layout) blob(d digest.Digest) string {
	return filepath.Join(l.dir, "blobs", string(d.Algorithm()), d.Encoded())
}

func (l layout) read(t *testing.T, d digest.Digest) []byte {
	t.Helper()
	data, err := os.ReadFile(l.blob(d))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// walk returns the root and everything below it, each digest once: manifests
// first, then blobs.
func (l layout) walk(t *testing.T) (manifests, blobs []image.Descriptor) {
	t.Helper()
	seen := map[digest.Digest]bool{}
	var visit func(d image.Descriptor)
	visit = func(d image.Descriptor) {
		if seen[d.Digest] {
			return
		}
		seen[d.Digest] = true
		if !isManifest(d.MediaType) {
			blobs = append(blobs, d)
			return
		}
		manifests = append(manifests, d)
		for _, child := range children(t, l.read(t, d.Digest)) {
			visit(child)
		}
	}
	visit(l.root)
	return manifests, blobs
}

// children returns what a manifest or index names.
func children(t *testing.T, manifest []byte) []image.Descriptor {
	t.Helper()
	var m struct {
		Config    *image.Descriptor  `json:"config"`
		Layers    []image.Descriptor `json:"layers"`
		Manifests []image.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(manifest, &m); err != nil {
		t.Fatalf("reading a manifest: %v\n%s", err, manifest)
	}
	all := slices.Concat(m.Manifests, m.Layers)
	if m.Config != nil {
		all = append(all, *m.Config)
	}
	return all
}

func isManifest(mediaType string) bool {
	return slices.Contains([]string{
		image.MediaTypeImageManifest, image.MediaTypeImageIndex,
		"application/vnd.docker.distribution.manifest.v2+json",
		"application/vnd.docker.distribution.manifest.list.v2+json",
	}, mediaType)
}

// sameLayout fails unless the layout in dir has want's root as its first entry
// (oras lists an index's children after it), and all that is below it with the
// right bytes.
func sameLayout(t *testing.T, dir string, want layout) {
	t.Helper()
	entries := readIndex(t, dir).Manifests
	if len(entries) == 0 || entries[0].Digest != want.root.Digest {
		t.Fatalf("pulled layout has entries %v, want %s", entries, want.root.Digest)
	}
	pulled := layout{dir: dir, root: want.root}
	manifests, blobs := want.walk(t)
	for _, d := range slices.Concat(manifests, blobs) {
		if !bytes.Equal(pulled.read(t, d.Digest), want.read(t, d.Digest)) {
			t.Errorf("pulled %s differs from what was pushed", d.Digest)
		}
	}
}

func readIndex(t *testing.T, dir string) image.Index {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list image.Index
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatalf("reading %s/index.json: %v", dir, err)
	}
	return list
}

func asJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func random(t *testing.T, n int64) []byte {
	t.Helper()
	data, err := io.ReadAll(io.LimitReader(rand.Reader, n))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sha256Of is computed here, apart from the libraries under test.
func sha256Of(data []byte) digest.Digest {
	return digest.Digest(fmt.Sprintf("sha256:%x", sha256.Sum256(data)))
}
