package disk_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/disk"
)

// plant writes files below root; a name that ends in / is a directory.
func plant(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// foreign returns what a blob of a layout is stored as, and the name of its file.
func foreign(repo registry.Name, content string) (registry.Stored, string) {
	d := registry.SHA256.FromString(content)
	return registry.Stored{Digest: d, Size: int64(len(content)), Locator: registry.LayoutLocator(repo)}, string(repo) + "/blobs/sha256/" + d.Encoded()
}

func TestLayouts(t *testing.T) {
	root := t.TempDir()
	files := map[string]string{"cache.db": "", "lost+found/x": "", "half/index.json": "{}", "half2/oci-layout": "{}"}
	for _, name := range []string{"a", "a/b", "a/blobs-of-it", "a/blobs", "a/blobs/c", "lib/x/alpine", ".hidden", "_trivy", "Upper", "a/.uploads", ".berth/blobs/z"} {
		files[name+"/oci-layout"], files[name+"/index.json"] = "{}", "{}"
	}
	plant(t, root, files)
	s := openStore(t, map[registry.Pool]string{"": root}, disk.Options{})
	var got []string
	for repo, err := range s.Layouts(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(repo))
	}
	slices.Sort(got)
	if diff := cmp.Diff([]string{"a", "a/b", "a/blobs", "a/blobs-of-it", "a/blobs/c", "lib/x/alpine"}, got); diff != "" {
		t.Error(diff)
	}
	for repo, ok := range map[registry.Name]bool{"a": true, "half": false, "half2": false, "none": false, "a/b/c": false} {
		if stamp, err := s.LayoutStamp(t.Context(), "", repo); ok && (err != nil || stamp == "") || !ok && !errors.Is(err, registry.ErrNameUnknown) {
			t.Errorf("%s: %q, %v", repo, stamp, err)
		}
	}
}

// TestForeignCopies reads copies of somebody else's, which nothing of ours changes
// or lists.
func TestForeignCopies(t *testing.T) {
	root := t.TempDir()
	good, name := foreign("a/b", "content")
	other, otherName := foreign("a/b", "a FIFO is here")
	plant(t, root, map[string]string{name: "content"})
	if err := syscall.Mkfifo(filepath.Join(root, otherName), 0o600); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, map[registry.Pool]string{"": root}, disk.Options{})
	c, err := s.Open(t.Context(), good, registry.Range{Offset: 3, Length: 2})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || string(b) != "te" {
		t.Errorf("%q, %v", b, err)
	}
	c.Close()
	longer := good
	longer.Size++
	outside := good
	outside.Locator = "layout:../a"
	for what, b := range map[string]registry.Stored{"FIFO": other, "size": longer, "path": outside} {
		if _, err := s.Open(t.Context(), b, registry.Whole); !errors.Is(err, registry.ErrBlobUnknown) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := s.Remove(t.Context(), good); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, name)); err != nil {
		t.Errorf("it was removed: %v", err)
	}
	if all, err := s.Copies(t.Context(), "", nil, 10); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// apart is a driver whose layouts are on another file system.
type apart struct{ *disk.Driver }

func (apart) TakeOver(context.Context, registry.Stored, time.Time) (registry.Locator, error) {
	return "", registry.ErrUnsupported
}

func TestTakeOver(t *testing.T) {
	root := t.TempDir()
	b, name := foreign("a", "content")
	bad := registry.Stored{Digest: registry.SHA256.FromString("damaged"), Size: 7, Locator: registry.LayoutLocator("a")}
	plant(t, root, map[string]string{name: "content", "a/blobs/sha256/" + bad.Digest.Encoded(): "DAMAGED", "a/index.json": "{}", "a/oci-layout": "{}", "a/mine": "x"})
	s := openStore(t, map[registry.Pool]string{"": root}, disk.Options{Durable: true})
	first, err := s.TakeOver(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.TakeOver(t.Context(), b)
	if err != nil || again != first {
		t.Errorf("again: %v, %v; want %v", again, err, first)
	}
	if all, err := s.Copies(t.Context(), "", nil, 10); err != nil || len(all) != 1 || all[0].Locator != first.Locator {
		t.Errorf("%v, %v", all, err)
	}
	gone, _ := foreign("a", "nothing")
	if _, err := s.TakeOver(t.Context(), gone); !errors.Is(err, registry.ErrBlobUnknown) {
		t.Error(err)
	}
	damaged := "a/blobs/sha256/" + bad.Digest.Encoded()
	remains := func(want map[string]bool) {
		t.Helper()
		for path, there := range want {
			if _, err := os.Stat(filepath.Join(root, path)); (err == nil) != there {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	files := make(map[registry.LayoutFile]bool)
	for f, err := range s.LayoutFiles(t.Context(), "", "a") {
		if err != nil {
			t.Fatal(err)
		}
		files[f] = true
	}
	if want := map[registry.LayoutFile]bool{{Digest: b.Digest, Size: 7}: true, {Digest: bad.Digest, Size: 7}: true}; !maps.Equal(files, want) {
		t.Errorf("files: %v, want %v", files, want)
	}
	for range 2 { // what is gone is no error
		if _, err := s.RemoveLayoutFiles(t.Context(), "", "a", []registry.Digest{b.Digest, gone.Digest, "sha256:../../mine"}); err != nil {
			t.Error(err)
		}
	}
	remains(map[string]bool{name: false, "a/index.json": true, "a/oci-layout": true, "a/mine": true, damaged: true})
	n, err := s.RemoveLayout(t.Context(), "", "a")
	if err != nil || n != 7 {
		t.Errorf("%d, %v", n, err)
	}
	remains(map[string]bool{"a/index.json": false, "a/oci-layout": false, "a/mine": true, damaged: false})
	if n, err := s.RemoveLayout(t.Context(), "", "b/c"); err != nil || n != 0 {
		t.Errorf("a layout that is not there: %d, %v", n, err)
	}
	if err := s.Verify(t.Context(), first, 0); err != nil {
		t.Error(err)
	}
}

// TestTakeOverCopies takes over what can't have a second name: it is copied, if it
// is not damaged.
func TestTakeOverCopies(t *testing.T) {
	root := t.TempDir()
	b, name := foreign("a", "content")
	bad := registry.Stored{Digest: registry.SHA256.FromString("damaged"), Size: 7, Locator: registry.LayoutLocator("a")}
	plant(t, root, map[string]string{name: "content", "a/blobs/sha256/" + bad.Digest.Encoded(): "DAMAGED"})
	d, err := disk.Open(root, disk.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := blobstore.Open(t.Context(), map[registry.Pool]blobstore.Driver{"": apart{d}}, blobstore.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	made, err := s.TakeOver(t.Context(), b)
	if err != nil || made.Locator == b.Locator {
		t.Fatalf("%v, %v", made, err)
	}
	if err := s.Verify(t.Context(), made, 0); err != nil {
		t.Error(err)
	}
	if _, err := s.TakeOver(t.Context(), bad); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Error(err)
	}
}
