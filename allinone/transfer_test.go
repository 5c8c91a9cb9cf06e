package allinone

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/rpc"
)

// site is a store with its config file.
type site struct{ root, file string }

func newSite(t *testing.T) site {
	t.Helper()
	s := site{root: t.TempDir(), file: filepath.Join(t.TempDir(), "config.json")}
	b, err := json.Marshal(map[string]any{"storage": map[string]any{"rootDirectory": s.root}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// run runs a command; its first argument is followed by the config file.
func (s site) run(t *testing.T, want int, command string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	err := Program("berth", "test", "", localParts()).Run(t.Context(), append([]string{command, s.file}, args...), &out)
	if got := exitCode(err); got != want {
		t.Fatalf("%s %v: exit code %d, want %d: %v\n%s", command, args, got, want, err, out.String())
	}
	if err != nil {
		return out.String() + err.Error()
	}
	return out.String()
}

// serve serves the store until the function that it returns is called.
func (s site) serve(t *testing.T) (adopted, func()) {
	t.Helper()
	root := &zotroot.Root{Dir: s.root, Hot: t.TempDir()}
	a := serveAdopted(t, root)
	return a, a.close
}

// whole returns what of a directory of zot a registry takes that allows nothing
// to be missing.
func whole(root *zotroot.Root) *zotroot.Root {
	w := *root
	w.Missing = nil
	w.Repositories = slices.DeleteFunc(slices.Clone(w.Repositories), func(n string) bool { return n == "hot/cache" })
	w.Manifests = slices.DeleteFunc(slices.Clone(w.Manifests), func(m zotroot.Manifest) bool {
		return m.Repo == "hot/cache" || slices.Contains(m.Tags, "sparse")
	})
	w.Blobs = slices.DeleteFunc(slices.Clone(w.Blobs), func(b zotroot.Blob) bool { return b.Repo == "hot/cache" })
	return &w
}

// TestTransfer imports a tree of layouts, exports it all to a tree and to an
// archive, and imports these elsewhere.
func TestTransfer(t *testing.T) {
	root := zotroot.Make(t, 20, 10)
	if err := os.RemoveAll(filepath.Join(root.Dir, "corrupt")); err != nil {
		t.Fatal(err)
	}
	first := newSite(t)
	out := first.run(t, exitFindings, "import", root.Dir)
	if !strings.Contains(out, "2 images could not be imported") { // sparse and damaged
		t.Errorf("import: %s", out)
	}
	if out := first.run(t, exitFindings, "import", "oci:"+root.Dir); !strings.Contains(out, " 0 blobs (0 bytes) imported") {
		t.Errorf("import again: %s", out)
	}
	want := whole(root)
	a, stop := first.serve(t)
	want.Blobs = slices.DeleteFunc(want.Blobs, func(b zotroot.Blob) bool { // of the sparse image, which nothing names
		code, _ := fetch(t, a.url+"/v2/"+b.Repo+"/blobs/"+b.Digest.String())
		return b.Repo == "broken" && code == http.StatusNotFound
	})
	a.check(t, want)
	stop()

	// What no tag leads to is not exported.
	want.Manifests = slices.DeleteFunc(want.Manifests, func(m zotroot.Manifest) bool { return m.Repo == "team/app" && len(m.Tags) == 0 })
	dest := t.TempDir()
	tree, archive := filepath.Join(dest, "tree"), filepath.Join(dest, "all.tar")
	first.run(t, 0, "export", tree, "--all")
	first.run(t, 0, "export", archive, "--all")
	if out := first.run(t, 0, "export", tree, "--all"); !strings.Contains(out, "0 manifests, 0 blobs (0 bytes) exported") {
		t.Errorf("export again: %s", out)
	}
	exported := &zotroot.Root{Dir: tree, Hot: t.TempDir()}
	b := serveAdopted(t, exported) // zot's form: a root to serve
	reachable := *want
	reachable.Blobs = slices.DeleteFunc(slices.Clone(want.Blobs), func(b zotroot.Blob) bool { return b.Repo == "team/app" || b.Repo == "broken" })
	b.check(t, &reachable)
	b.close()
	for _, source := range []string{tree, archive} {
		second := newSite(t)
		second.run(t, 0, "import", source)
		c, stop := second.serve(t)
		c.check(t, &reachable)
		stop()
	}
}

// TestTransferRunning exports from and imports to registries that serve.
func TestTransferRunning(t *testing.T) {
	source, target := newSite(t), newSite(t)
	url := source.program(t)
	image := pushImage(t, url+"/v2/a", "v1", "content")
	archive := filepath.Join(t.TempDir(), "a.tar")
	source.run(t, 0, "export", archive, "a:v1")
	other := target.program(t)
	target.run(t, 0, "import", archive, "--repo", "b/c")
	if out := target.run(t, 0, "status"); !strings.Contains(out, "the registry runs") {
		t.Errorf("status: %s", out)
	}
	if code, got := fetch(t, other+"/v2/b/c/manifests/v1"); code != http.StatusOK || !bytes.Equal(got, image) {
		t.Errorf("%d %s", code, got)
	}
}

// program serves the store as the programs do, with the socket for commands, and
// returns its URL.
func (s site) program(t *testing.T) string {
	t.Helper()
	blobs, catalog := storesIn(t, s.root)
	unit, err := rpc.ControlUnit(t.Context(), s.root, blobs, catalog, nil, nil, rpc.ServerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- unit.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(unit.Stop(context.Background()), <-done); err != nil {
			t.Error(err)
		}
	})
	return serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })
}

// tarOf returns an archive with one file.
func tarOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pushImage(t *testing.T, repo, tag string, content string) []byte {
	t.Helper()
	config, layer := []byte("{}"), []byte(strings.Repeat(content, 1000))
	push(t, repo, config)
	push(t, repo, layer)
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		registry.TypeManifest, registry.SHA256.FromBytes(config), registry.SHA256.FromBytes(layer), len(layer))
	if resp := send(t, http.MethodPut, repo+"/manifests/"+tag, m, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	return m
}

// TestTransferDelta carries changes to a site that nothing connects, signed.
func TestTransferDelta(t *testing.T) {
	here, there, dir := newSite(t), newSite(t), t.TempDir()
	key, pub, other := filepath.Join(dir, "key"), filepath.Join(dir, "pub"), filepath.Join(dir, "other")
	for _, args := range [][]string{
		{"genpkey", "-algorithm", "ed25519", "-out", key}, {"pkey", "-in", key, "-pubout", "-out", pub}, {"genpkey", "-algorithm", "ed25519", "-out", other},
	} {
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Skipf("NOT RUN: openssl: %v %s", err, out)
		}
	}
	a, stop := here.serve(t)
	pushImage(t, a.url+"/v2/app", "v1", "first")
	stop()
	full, receipt := filepath.Join(dir, "full"), filepath.Join(dir, "receipt")
	here.run(t, 0, "export", full, "--all", "--sign", key)
	there.run(t, 0, "import", full, "--verify", pub, "--receipt", receipt)

	a, stop = here.serve(t)
	second := pushImage(t, a.url+"/v2/app", "v2", "second")
	if resp := send(t, http.MethodPut, a.url+"/v2/app/manifests/moved", second, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	pushImage(t, a.url+"/v2/copy", "v1", "first") // all of its blobs are there
	stop()
	delta := filepath.Join(dir, "delta.tar")
	if out := here.run(t, 0, "export", delta, "--all", "--since", receipt, "--sign", key); !strings.Contains(out, "2 manifests, 1 blobs (6000 bytes) exported") {
		t.Errorf("delta: %s", out)
	}
	there.run(t, exitNotDone, "import", delta, "--verify", other)
	there.run(t, 0, "import", delta, "--verify", pub, "--receipt", receipt)
	b, stop := there.serve(t)
	for _, path := range []string{"app/manifests/v1", "app/manifests/v2", "app/manifests/moved", "copy/manifests/v1", "app/blobs/" + registry.SHA256.FromString(strings.Repeat("second", 1000)).String()} {
		if code, _ := fetch(t, b.url+"/v2/"+path); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	stop()
	if out := here.run(t, 0, "export", filepath.Join(dir, "none"), "--all", "--since", receipt); !strings.Contains(out, "0 manifests, 0 blobs") {
		t.Errorf("nothing new: %s", out)
	}
	// An index that somebody has changed is refused.
	index := filepath.Join(full, "app/index.json")
	text, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(index, bytes.Replace(text, []byte(`"v1"`), []byte(`"v9"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := there.run(t, exitNotDone, "import", full, "--verify", pub); !strings.Contains(out, "not the one that was signed") {
		t.Errorf("changed: %s", out)
	}
}

// TestTransferSinceTime leaves out what was there at a moment.
func TestTransferSinceTime(t *testing.T) {
	s, dir := newSite(t), t.TempDir()
	a, stop := s.serve(t)
	pushImage(t, a.url+"/v2/app", "v1", "first")
	history, err := a.catalog.TagHistory(t.Context(), registry.Actor{}, "app", "v1", 1)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	at := time.UnixMicro(history[0].At)
	export := func(since time.Time) string {
		t.Helper()
		return s.run(t, 0, "export", filepath.Join(dir, since.Format("150405.000000")), "--all", "--since", since.UTC().Format(time.RFC3339Nano))
	}
	if out := export(at); !strings.Contains(out, "0 manifests, 0 blobs") {
		t.Errorf("at the moment: %s", out)
	}
	if out := export(at.Add(-time.Microsecond)); !strings.Contains(out, "1 manifests, 2 blobs") {
		t.Errorf("before: %s", out)
	}
}

// TestTransferSkopeo lets skopeo read what is exported, and reads what it writes.
func TestTransferSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("NOT RUN: skopeo is not installed")
	}
	skopeo := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("skopeo", append([]string{"--insecure-policy", "--tmpdir", t.TempDir()}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	s, dir := newSite(t), t.TempDir()
	a, stop := s.serve(t)
	layer := tarOf(t, "hello", "world")
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]},"config":{}}`, registry.SHA256.FromBytes(layer))
	push(t, a.url+"/v2/app", config)
	push(t, a.url+"/v2/app", layer)
	m := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		registry.TypeManifest, registry.SHA256.FromBytes(config), len(config), registry.SHA256.FromBytes(layer), len(layer))
	if resp := send(t, http.MethodPut, a.url+"/v2/app/manifests/v1", m, registry.TypeManifest); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	stop()
	oci, archive := filepath.Join(dir, "oci"), filepath.Join(dir, "app.tar")
	s.run(t, 0, "export", "oci:"+oci, "app:v1")
	s.run(t, 0, "export", "oci-archive:"+archive, "app")
	want := registry.SHA256.FromBytes(m).String()
	for _, image := range []string{"oci:" + oci + ":v1", "oci-archive:" + archive + ":v1"} {
		if out := skopeo("inspect", image); !strings.Contains(out, want) {
			t.Errorf("skopeo inspect %s: %s", image, out)
		}
	}
	copies := map[string]string{
		"oci:" + filepath.Join(dir, "copied") + ":v1":                    filepath.Join(dir, "copied"),
		"oci-archive:" + filepath.Join(dir, "copied.tar") + ":v1":        filepath.Join(dir, "copied.tar"),
		"docker-archive:" + filepath.Join(dir, "docker.tar") + ":app:v1": filepath.Join(dir, "docker.tar"),
	}
	for image, file := range copies {
		skopeo("copy", "oci:"+oci+":v1", image)
		other := newSite(t)
		other.run(t, 0, "import", file, "--repo", "again")
		b, stop := other.serve(t)
		if code, got := fetch(t, b.url+"/v2/again/manifests/v1"); code != http.StatusOK {
			t.Errorf("%s: %d %s", image, code, got)
		}
		out := skopeo("inspect", "--tls-verify=false", "docker://"+strings.TrimPrefix(b.url, "http://")+"/again:v1")
		if !strings.Contains(out, `"amd64"`) {
			t.Errorf("%s: %s", image, out)
		}
		skopeo("copy", "--src-tls-verify=false", "docker://"+strings.TrimPrefix(b.url, "http://")+"/again:v1", "dir:"+t.TempDir())
		stop()
	}
}
