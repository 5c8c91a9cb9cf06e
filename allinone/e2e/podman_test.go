//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// containersCommands gives podman and buildah storage and settings of their
// own, which go away with t.
func containersCommands(t *testing.T) *Commands {
	t.Helper()
	// Not t.TempDir: it cannot remove what is still mounted.
	dir, err := os.MkdirTemp("", "containers")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmountUnder(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("removing the files of podman and buildah: %v", err)
		}
	})
	// Partial images: layers in the zstd:chunked form are fetched by ranges.
	storage := fmt.Sprintf(`[storage]
driver = "overlay"
graphroot = "%[1]s/root"
runroot = "%[1]s/run"
[storage.options]
pull_options = {enable_partial_images = "true", use_hard_links = "false", ostree_repos = ""}
`, dir)
	// The limits of processes are podman's own default where the kernel allows it.
	engine := fmt.Sprintf(`[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc"
tmp_dir = "%[1]s/tmp"
static_dir = "%[1]s/static"
volume_path = "%[1]s/volumes"
`, dir)
	run := NewCommands(t,
		"CONTAINERS_STORAGE_CONF="+filepath.Join(dir, "storage.conf"),
		"CONTAINERS_CONF="+filepath.Join(dir, "containers.conf"))
	run.dir = dir
	writeFile(t, run, "storage.conf", storage)
	writeFile(t, run, "containers.conf", engine)
	return run
}

// An oci engine is podman or buildah: they share most commands.
type ociEngine struct {
	name    string
	context string // to build images from
	arch    string // format that shows an image's architecture
	*Commands
}

func (e *ociEngine) do(t *testing.T, args ...string) string {
	t.Helper()
	return e.Run(t, "/usr/bin/"+e.name, args...)
}

// build makes images of the context, changed for the cell so that no layer is
// in the registry before, and returns their ids.
func (e *ociEngine) build(t *testing.T, args ...string) []string {
	t.Helper()
	stamp := filepath.Join(e.context, "rootfs", "stamp")
	if err := os.WriteFile(stamp, random(t, 64<<10), 0o644); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"build", "-q", "--isolation", "chroot"}, args...)
	return strings.Fields(e.do(t, append(args, e.context)...))
}

// push returns the digest that the client says it pushed.
func (e *ociEngine) push(t *testing.T, ref string, args ...string) digest.Digest {
	t.Helper()
	args = append(args, "--tls-verify=false", "--digestfile", "digest", ref, "docker://"+ref)
	e.do(t, args...)
	return digest.Digest(strings.TrimSpace(readFile(t, e.Commands, "digest")))
}

// forget removes all images with their layers.
func (e *ociEngine) forget(t *testing.T) {
	t.Helper()
	e.do(t, "rmi", "-a", "-f")
	if left := e.do(t, "images", "-a", "-q"); left != "" {
		t.Fatalf("images are left:\n%s", left)
	}
}

func (e *ociEngine) pull(t *testing.T, ref string, args ...string) (id string) {
	t.Helper()
	args = append([]string{"pull", "-q", "--tls-verify=false"}, args...)
	return e.do(t, append(args, ref)...)
}

// podmanCells drive Debian's podman and buildah.
func podmanCells(t *testing.T) []cell {
	run, context := containersCommands(t), buildContext(t)
	imageProof := map[string]string{
		"podman":  "build, push, forget, pull, mount; image id and files equal; every layer read back",
		"buildah": "build, push, forget, pull; image id equal; every layer read back",
	}
	var cells []cell
	for _, e := range []*ociEngine{
		{name: "podman", arch: "{{.Architecture}}", context: context, Commands: run},
		{name: "buildah", arch: "{{.OCIv1.Architecture}}", context: context, Commands: run},
	} {
		cells = append(cells, cell{
			client: e.name, content: "image",
			proof: imageProof[e.name],
			run:   e.testImage,
		}, cell{
			client: e.name, content: "index",
			proof: "build for two platforms, `manifest push --all`, forget, pull each: image ids and architectures equal",
			run:   e.testIndex,
		}, cell{
			client: e.name, content: "artifact",
			none: "this version takes images and indexes only",
		}, cell{
			client: e.name, content: "zstd layers",
			proof: "`push --compression-format zstd`: every layer is zstd in the manifest; forget, pull: image id equal",
			run:   e.testZstd,
		})
		if e.name == "podman" {
			cells = append(cells, cell{
				client: e.name, content: "partial pull",
				proof: "two images of zstd:chunked layers; the second is fetched by several ranges in one request; ids and files equal",
				run:   e.testPartial,
			})
		}
	}
	return cells
}

func (e *ociEngine) testImage(t *testing.T, s *System) {
	repo := e.name + "/image"
	ref := s.Addr + "/" + repo + ":1"
	id := e.build(t, "-t", ref, "--platform", "linux/amd64")[0]
	readBack(t, s, repo, "1", e.push(t, ref, "push", "-q"))
	e.forget(t)
	if got := e.pull(t, ref); got != id {
		t.Errorf("image id after the pull is %s, want %s", got, id)
	}
	if e.name == "podman" { // buildah mounts working containers only
		e.sameFiles(t, ref)
	}
}

// sameFiles compares files of the pulled image with those it was built from.
// Running it would show less, and podman waits for its monitor's end, which
// takes an init process that reaps.
func (e *ociEngine) sameFiles(t *testing.T, ref string) {
	t.Helper()
	root := e.do(t, "image", "mount", ref)
	for in, from := range map[string]string{
		"hello": "hello-amd64", "srv/stock.bin": "stock.bin", "stamp": "rootfs/stamp", "etc/services": "rootfs/etc/services",
	} {
		got, err := os.ReadFile(filepath.Join(root, in))
		if err != nil {
			t.Error(err)
			continue
		}
		if want, err := os.ReadFile(filepath.Join(e.context, from)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s in the pulled image differs from %s (%v)", in, from, err)
		}
	}
	e.do(t, "image", "unmount", ref)
}

func (e *ociEngine) testIndex(t *testing.T, s *System) {
	repo := e.name + "/index"
	ref := s.Addr + "/" + repo + ":1"
	built := e.build(t, "--manifest", ref, "--platform", "linux/amd64,linux/arm64")
	readBack(t, s, repo, "1", e.push(t, ref, "manifest", "push", "--all"))
	e.forget(t)
	var pulled []string
	for _, arch := range []string{"amd64", "arm64"} {
		id := e.pull(t, ref, "--platform", "linux/"+arch)
		pulled = append(pulled, id)
		if got := e.do(t, "inspect", "--type", "image", "-f", e.arch, id); got != arch {
			t.Errorf("the image pulled for %s is for %s", arch, got)
		}
	}
	slices.Sort(built)
	slices.Sort(pulled)
	if !slices.Equal(built, pulled) {
		t.Errorf("image ids after the pull are %q, want %q", pulled, built)
	}
}

func (e *ociEngine) testZstd(t *testing.T, s *System) {
	repo := e.name + "/zstd"
	ref := s.Addr + "/" + repo + ":1"
	// One layer: those of a build in steps are known to the registry as gzip.
	id := e.build(t, "-t", ref, "--layers=false")[0]
	d := e.push(t, ref, "push", "-q", "--compression-format", "zstd")
	readBack(t, s, repo, "1", d)
	for _, child := range children(t, s.get(t, "/v2/"+repo+"/manifests/"+string(d))) {
		if strings.Contains(child.MediaType, "layer") && !strings.HasSuffix(child.MediaType, "+zstd") {
			t.Errorf("layer %s is a %s", child.Digest, child.MediaType)
		}
	}
	e.forget(t)
	if got := e.pull(t, ref); got != id {
		t.Errorf("image id after the pull is %s, want %s", got, id)
	}
}

// testPartial pulls an image, and then one that differs in files here and
// there: what lies between them is on disk already.
func (e *ociEngine) testPartial(t *testing.T, s *System) {
	front, ranges := recordRanges(t, s.Addr)
	var ids, refs []string
	for i := range 2 {
		ref := fmt.Sprintf("%s/%s/partial:%d", front, e.name, i)
		for _, name := range []string{"etc/services", "etc/debian_version", "usr/share/base-files/motd"} {
			path := filepath.Join(e.context, "rootfs", name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, random(t, 32<<10), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		ids = append(ids, e.build(t, "-t", ref, "--layers=false", "--platform", "linux/amd64")[0])
		e.push(t, ref, "push", "-q", "--compression-format", "zstd:chunked")
		refs = append(refs, ref)
	}
	e.forget(t)
	for i, ref := range refs {
		if got := e.pull(t, ref); got != ids[i] {
			t.Errorf("image id after the pull is %s, want %s", got, ids[i])
		}
	}
	e.sameFiles(t, refs[1])
	several := false
	for _, r := range ranges() {
		several = several || strings.Contains(r, ",") && strings.HasSuffix(r, " 206 multipart/byteranges")
	}
	if !several {
		t.Errorf("no answer had several ranges: %q", ranges())
	}
}

// recordRanges puts a proxy before a registry. The function returns, for each
// request with a Range, that header and the answer's status and media type.
func recordRanges(t *testing.T, backend string) (addr string, ranges func() []string) {
	t.Helper()
	var (
		mu   sync.Mutex // guards seen
		seen []string
	)
	addr = serveLoopback(t, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: backend})
			r.Out.Host = r.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			if asked := resp.Request.Header.Get("Range"); asked != "" {
				mediaType, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
				mu.Lock()
				seen = append(seen, fmt.Sprintf("%s %d %s", asked, resp.StatusCode, mediaType))
				mu.Unlock()
			}
			return nil
		},
	})
	return addr, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(seen)
	}
}
