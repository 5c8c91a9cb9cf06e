package allinone

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/services/metadata"
)

// runAdopt runs a command with the config file of a directory of zot.
func runAdopt(t *testing.T, root *zotroot.Root, args ...string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	err := Program("berth", "test", "", localParts()).Run(t.Context(), append(args, adoptConfig(t, root)), &out)
	if err != nil {
		t.Logf("%v: %v", args, err)
	}
	return out.String(), exitCode(err)
}

// TestAdopt takes a directory over by command: first a dry run, which changes
// nothing, then in place, then for good.
func TestAdopt(t *testing.T) {
	root := zotroot.Make(t, 6, 12)
	before := zotroot.Snapshot(t, root.Dir)
	if out, code := runAdopt(t, root, "adopt", "--dry-run"); code != 0 || !strings.Contains(out, "13 wait to be taken over") || !strings.Contains(out, "meta.db") {
		t.Fatalf("dry run: %d %s", code, out)
	}
	// A layer that is missing, a manifest that is damaged, an index that is cut.
	if out, code := runAdopt(t, root, "adopt"); code != exitFindings || strings.Count(out, "repository broken: ") != 2 || strings.Count(out, "repository corrupt: ") != 1 {
		t.Fatalf("adopt: %d %s", code, out)
	}
	if out, code := runAdopt(t, root, "adopt"); code != exitFindings || !strings.Contains(out, "took over 0 manifests") {
		t.Fatalf("adopt again: %d %s", code, out)
	}
	sameTree(t, "adopt", before, zotroot.Snapshot(t, root.Dir))

	out, code := runAdopt(t, root, "status", "--json")
	var report adoptionReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != exitFindings {
		t.Fatalf("%d %v: %s", code, err, out)
	}
	if report.States[metadata.AdoptionTaken] != 13 || report.ForeignBlobs == 0 || report.ForeignBytes < 70_000 || len(report.Leftovers) != 3 {
		t.Errorf("status: %+v", report)
	}

	if out, code := runAdopt(t, root, "adopt", "--finish"); code != exitFindings || !strings.Contains(out, "11 directories of repositories removed, of 2 some files kept") {
		t.Fatalf("finish: %d %s", code, out)
	}
	for _, name := range []string{"library", "team", "multi", "long", "signed"} {
		if _, err := os.Lstat(filepath.Join(root.Dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	damaged := filepath.Join(root.Dir, "broken/blobs/sha256", root.Missing["broken"].Encoded())
	for _, path := range []string{damaged, filepath.Join(root.Dir, "corrupt/index.json"), filepath.Join(root.Dir, "meta.db")} {
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("what could not be taken over is gone: %v", err)
		}
	}
	if n := countFiles(t, filepath.Join(root.Dir, "broken/blobs")); n != 3 {
		t.Errorf("%d files of repository broken are left, want the damaged manifest, its config and its layer", n)
	}
	if out, code := runAdopt(t, root, "status"); code != exitFindings || !strings.Contains(out, "another registry: 0 (0 bytes)") {
		t.Errorf("status after finish: %d %s", code, out)
	}
	a := serveAdopted(t, root)
	a.check(t, root)
	a.close()
	if out, err := runFsckOn(t, root, "--read-data"); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
	for _, file := range blobFiles(t, root.Dir) {
		info, err := os.Lstat(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := links(info); n != 1 {
			t.Errorf("%s has %d names", file, n)
		}
	}
}

// TestFinishKeepsWhatNobodyHas loses a file between the take-over and its end.
func TestFinishKeepsWhatNobodyHas(t *testing.T) {
	root := zotroot.Make(t, 7, 5)
	runAdopt(t, root, "adopt")
	// A blob goes after it was taken over.
	lost := root.Blobs[0]
	if err := os.Remove(filepath.Join(root.Dir, lost.Repo, "blobs/sha256", lost.Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	out, code := runAdopt(t, root, "adopt", "--finish")
	if code != exitFindings || !strings.Contains(out, lost.Digest.String()) {
		t.Errorf("%d %s", code, out)
	}
	a := serveAdopted(t, root)
	for _, b := range root.Blobs {
		want := http.StatusOK
		if b == lost {
			want = http.StatusInternalServerError // the catalog knows it
		}
		if code, _ := fetch(t, a.url+"/v2/"+b.Repo+"/blobs/"+b.Digest.String()); code != want {
			t.Errorf("%s %s: %d, want %d", b.Repo, b.Digest, code, want)
		}
	}
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func blobFiles(t *testing.T, root string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, ".berth/blobs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	return files
}

func links(info fs.FileInfo) uint64 {
	return uint64(info.Sys().(*syscall.Stat_t).Nlink) //nolint:unconvert // narrower on other processors
}
