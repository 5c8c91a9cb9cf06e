package allinone

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/allinone/zotroot"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/transfer"
)

// bucket is a directory that is read as a bucket would be.
type bucket struct{ dir string }

func (b bucket) Open(name string) (io.ReadCloser, int64, error) {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	return f, info.Size(), err
}

func (b bucket) DirsWith(name string) (all []string, err error) {
	err = filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == name && !d.IsDir() {
			dir, _ := filepath.Rel(b.dir, filepath.Dir(path))
			all = append(all, dir)
		}
		return err
	})
	return all, err
}

func (b bucket) Close() error { return nil }

// TestImportFromBucket imports what another registry keeps in a bucket: the same as
// from its directory. The driver has a test of its own.
func TestImportFromBucket(t *testing.T) {
	root := zotroot.Make(t, 21, 6)
	var opened config.Pool
	parts := localParts()
	parts.Tree = func(_ context.Context, p config.Pool) (transfer.Files, error) {
		opened = p
		return bucket{root.Dir}, nil
	}
	run := func(parts Parts, source string) string {
		t.Helper()
		var out bytes.Buffer
		err := Program("berth", "test", "", parts).Run(t.Context(), []string{"import", newSite(t).file, source}, &out)
		if code := exitCode(err); code != exitNotDone && code != exitFindings { // a repository there is broken
			t.Fatalf("import from %s: exit code %d: %v\n%s", source, code, err, out.String())
		}
		if exitCode(err) == exitNotDone {
			return err.Error()
		}
		var text strings.Builder
		for line := range strings.Lines(strings.ReplaceAll(out.String(), withoutKeys(source), "SOURCE")) {
			if !strings.Contains(line, "; at ") { // how far it is, now and then
				text.WriteString(line)
			}
		}
		return text.String()
	}
	if err := os.RemoveAll(filepath.Join(root.Dir, "corrupt")); err != nil { // its index ends the import of any source
		t.Fatal(err)
	}
	const source = "s3://images/zot/root?region=eu-central-1&regionendpoint=http://127.0.0.1:1"
	want, got := run(parts, root.Dir), run(parts, source)
	if diff := cmp.Diff(want, got); diff != "" || !strings.Contains(got, "imported") {
		t.Errorf("from a directory and from a bucket (-directory +bucket):\n%s", diff)
	}
	if diff := cmp.Diff(config.Driver{"name": "s3", "bucket": "images", "rootdirectory": "/zot/root", "region": "eu-central-1", "regionendpoint": "http://127.0.0.1:1"}, opened.StorageDriver); diff != "" {
		t.Error(diff)
	}
	if got := run(localParts(), source); !strings.Contains(got, "can't read buckets") {
		t.Errorf("without a driver: %s", got)
	}
	if got := run(parts, "s3://"); !strings.Contains(got, "s3://BUCKET") {
		t.Errorf("without a bucket: %s", got)
	}
}
