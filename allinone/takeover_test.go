package allinone

import (
	"bytes"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	imgspec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/sqldb/pgtest"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
	"github.com/berth-registry/berth/services/metadata"
	"github.com/berth-registry/berth/services/metadata/postgres"
)

// adopted is a server on a directory of zot.
type adopted struct {
	url     string
	catalog registry.Catalog
	close   func()
}

// serveAdopted serves a directory of zot, with its subPath.
func serveAdopted(t *testing.T, root *zotroot.Root) adopted {
	t.Helper()
	return serveAdoptedBy(t, root, localParts(), config.Metadata{Driver: config.SQLite})
}

// serveAdoptedBy serves it with other drivers.
func serveAdoptedBy(t *testing.T, root *zotroot.Root, parts Parts, names config.Metadata) adopted {
	t.Helper()
	cfg := config.Defaults()
	cfg.Storage.Metadata = names
	cfg.Storage.RootDirectory = root.Dir
	cfg.Storage.SubPaths = map[string]config.SubPath{"/hot": {Pool: config.Pool{RootDirectory: root.Hot}}}
	p := daemon.Process{Log: slog.New(slog.DiscardHandler)}
	blobs, err := parts.Blobs(t.Context(), cfg, p)
	if err != nil {
		t.Fatal(err)
	}
	catalog, err := parts.Catalog(t.Context(), cfg, blobs, func(err error) { t.Error(err) }, p)
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	close := func() {
		if !closed {
			closed = true
			if err := catalog.Close(); err != nil {
				t.Error(err)
			}
			if err := blobs.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(close)
	return adopted{catalog: catalog, close: close, url: serve(t, blobs, catalog, func(l net.Listener) net.Listener { return l })}
}

func fetch(t *testing.T, url string) (int, []byte) {
	t.Helper()
	return zotroot.Get(t, url)
}

// check pulls all that there is by digest and by tag.
func (a adopted) check(t *testing.T, root *zotroot.Root) {
	t.Helper()
	root.Check(t, a.url)
}

func sameTree(t *testing.T, what string, before, after map[string]string) {
	t.Helper()
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("%s changed the other registry's tree:\n%s", what, diff)
	}
}

// TestTakeover serves a directory that zot has left: all of it can be pulled, at
// once and after a restart, and the directory stays what it was.
func TestTakeover(t *testing.T) {
	root := zotroot.Make(t, 1, 12)
	before, hot := zotroot.Snapshot(t, root.Dir), zotroot.Snapshot(t, root.Hot)
	for range 2 {
		a := serveAdopted(t, root)
		a.check(t, root)
		a.close()
	}
	if out, err := runFsckOn(t, root, "--read-data"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	sameTree(t, "taking over", before, zotroot.Snapshot(t, root.Dir))
	sameTree(t, "taking over", hot, zotroot.Snapshot(t, root.Hot))
}

// TestTakeoverDeletes removes and moves what was taken over: it stays so, and the
// directory stays what it was.
func TestTakeoverDeletes(t *testing.T) {
	root := zotroot.Make(t, 2, 12)
	before := zotroot.Snapshot(t, root.Dir)
	a := serveAdopted(t, root)
	var other, victim zotroot.Manifest
	for _, m := range root.Manifests {
		switch {
		case m.Repo == "library/app1" && slices.Contains(m.Tags, "v1"):
			victim = m
		case m.Repo == "library/app1":
			other = m
		}
	}
	base := a.url + "/v2/library/app1/manifests/"
	if resp := send(t, http.MethodDelete, base+victim.Digest.String(), nil, ""); resp.StatusCode != http.StatusAccepted {
		t.Fatal(resp.Status)
	}
	if resp := send(t, http.MethodPut, base+"moved", other.Bytes, other.MediaType); resp.StatusCode != http.StatusCreated {
		t.Fatal(resp.Status)
	}
	push(t, a.url+"/v2/library/app1", []byte("new"))
	a.close()

	// zot changes what it has, but not what was removed here.
	root.Index(t, "library/app1", func(i *imgspec.Index) {
		i.Manifests = append(i.Manifests,
			imgspec.Descriptor{MediaType: victim.MediaType, Digest: victim.Digest, Size: int64(len(victim.Bytes))},
			imgspec.Descriptor{MediaType: victim.MediaType, Digest: victim.Digest, Size: int64(len(victim.Bytes)), Annotations: map[string]string{imgspec.AnnotationRefName: "back"}},
			imgspec.Descriptor{MediaType: other.MediaType, Digest: other.Digest, Size: int64(len(other.Bytes)), Annotations: map[string]string{imgspec.AnnotationRefName: "fresh"}})
		i.Manifests = slices.DeleteFunc(i.Manifests, func(d imgspec.Descriptor) bool { return d.Annotations[imgspec.AnnotationRefName] == other.Tags[0] })
	})
	a = serveAdopted(t, root)
	base = a.url + "/v2/library/app1/manifests/"
	for ref, want := range map[string]int{
		victim.Digest.String(): http.StatusNotFound, "v1": http.StatusNotFound, "back": http.StatusNotFound,
		"moved": http.StatusOK, "fresh": http.StatusOK,
		other.Tags[0]: http.StatusNotFound, other.Digest.String(): http.StatusOK, // the tag was removed by zot
	} {
		if code, _ := fetch(t, base+ref); code != want {
			t.Errorf("%s: %d, want %d", ref, code, want)
		}
	}
	a.close()
	after := zotroot.Snapshot(t, root.Dir)
	for _, m := range []map[string]string{before, after} {
		maps.DeleteFunc(m, func(path, _ string) bool { return path == "library/app1/index.json" })
	}
	sameTree(t, "removing", before, after)
}

// TestTakeoverDeletesRepository removes a whole repository: it does not come back
// with what zot does to it, but what zot adds is served.
func TestTakeoverDeletesRepository(t *testing.T) {
	root := zotroot.Make(t, 8, 12)
	a := serveAdopted(t, root)
	a.check(t, root)
	if err := a.catalog.DeleteRepository(t.Context(), registry.Actor{}, "library/app2"); err != nil {
		t.Fatal(err)
	}
	a.close()
	var removed zotroot.Manifest
	for _, m := range root.Manifests {
		if m.Repo == "library/app2" {
			removed = m
		}
	}
	served := func(want int) {
		t.Helper()
		a := serveAdopted(t, root)
		defer a.close()
		for _, ref := range []string{removed.Digest.String(), removed.Tags[0], "again"} {
			if code, _ := fetch(t, a.url+"/v2/library/app2/manifests/"+ref); code != want {
				t.Errorf("%s: %d, want %d", ref, code, want)
			}
		}
		if _, list := fetch(t, a.url+"/v2/_catalog?n=1000"); strings.Contains(string(list), "library/app2") != (want == http.StatusOK) {
			t.Errorf("it is in %s", list)
		}
	}
	served(http.StatusNotFound)
	root.Index(t, "library/app2", func(i *imgspec.Index) {
		again := i.Manifests[0]
		again.Annotations = map[string]string{imgspec.AnnotationRefName: "again"}
		i.Manifests = append(i.Manifests, again)
	})
	served(http.StatusNotFound)
}

// TestTakeoverOnPostgres takes over with the names in PostgreSQL.
func TestTakeoverOnPostgres(t *testing.T) {
	server := pgtest.Start(t, pgtest.Options{Durable: true})
	parts := Stores(map[string]blobstore.OpenPool{"local": disk.OpenPool}, metadata.Drivers{Databases: map[string]metadata.OpenDB{"postgres": postgres.OpenConfigured}})
	names := config.Metadata{Driver: config.Postgres, DSN: config.Secret(server.DSN(server.Database(t)))}
	root := zotroot.Make(t, 9, 20)
	before := zotroot.Snapshot(t, root.Dir)
	for range 2 {
		a := serveAdoptedBy(t, root, parts, names)
		a.check(t, root)
		a.close()
	}
	sameTree(t, "taking over", before, zotroot.Snapshot(t, root.Dir))
}

// TestTakeoverOfRunning wants no start while zot runs.
func TestTakeoverOfRunning(t *testing.T) {
	root := zotroot.Make(t, 3, 1)
	f, err := os.Open(filepath.Join(root.Dir, "cache.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Storage.RootDirectory = root.Dir
	if _, err := localParts().Blobs(t.Context(), cfg, daemon.Process{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "stop it first") {
		t.Fatalf("got %v", err)
	}
	f.Close()
	a := serveAdopted(t, root)
	// And zot does not start while we run.
	if f, err = os.Open(filepath.Join(root.Dir, "cache.db")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		t.Error("zot could start")
	}
	a.close()
}

// TestTakeoverOfLink serves nothing that a link leads to.
func TestTakeoverOfLink(t *testing.T) {
	root, outside := zotroot.Make(t, 4, 3), t.TempDir()
	m := root.Manifests[0]
	blob := root.Blobs[0]
	path := filepath.Join(root.Dir, blob.Repo, "blobs/sha256", blob.Digest.Encoded())
	target := filepath.Join(outside, "x")
	if err := os.Rename(path, target); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(root.Dir, "multi"), filepath.Join(outside, "multi")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "multi"), filepath.Join(root.Dir, "multi")); err != nil {
		t.Fatal(err)
	}
	a := serveAdopted(t, root)
	if code, _ := fetch(t, a.url+"/v2/"+m.Repo+"/manifests/"+m.Digest.String()); code != http.StatusOK {
		t.Errorf("manifest: %d", code)
	}
	for _, path := range []string{blob.Repo + "/blobs/" + blob.Digest.String(), "multi/manifests/latest"} {
		if code, _ := fetch(t, a.url+"/v2/"+path); code != http.StatusNotFound {
			t.Errorf("%s: %d", path, code)
		}
	}
}

func runFsckOn(t *testing.T, root *zotroot.Root, flags ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := Program("berth", "test", "", localParts()).Run(t.Context(), append(append([]string{"fsck"}, flags...), adoptConfig(t, root)), &out)
	return out.String(), err
}

// adoptConfig writes a config file for a directory of zot.
func adoptConfig(t *testing.T, root *zotroot.Root) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	text := `{"storage":{"rootDirectory":"` + root.Dir + `","subPaths":{"/hot":{"rootDirectory":"` + root.Hot + `"}}}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
