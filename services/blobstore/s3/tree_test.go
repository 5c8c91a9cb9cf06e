package s3

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestTree reads image layouts in a bucket as zot leaves them: blobs of several
// repositories have bytes in one of them only.
func TestTree(t *testing.T) {
	server := s3test.Start(t)
	p := config.Pool{StorageDriver: server.Driver("/zot/root")}
	tree, err := OpenTree(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	name := func(text string) string { return "blobs/sha256/" + registry.SHA256.FromString(text).Encoded() }
	for key, text := range map[string]string{
		"a/oci-layout": "{}", "a/index.json": "index of a", "a/" + name("layer"): "", "a/" + name("own"): "own", "a/" + name(""): "", "a/" + name("lost"): "",
		"a/b/oci-layout": "{}", "a/b/index.json": "index of b", "a/b/" + name("layer"): "layer",
		"a/b/" + name("many") + "x": "", "c/d/oci-layout": "{}", "c/d/" + name("layer"): "",
		".hidden/oci-layout": "{}", "blobs/oci-layout": "{}",
	} {
		if _, err := tree.client.write(t.Context(), "zot/root/"+key, strings.NewReader(text), int64(len(text)), condition{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tree.client.write(t.Context(), "zot/roots/oci-layout", strings.NewReader("{}"), 2, condition{}); err != nil {
		t.Fatal(err)
	}
	dirs, err := tree.DirsWith("oci-layout")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a/b", "a", "blobs", "c/d"}, dirs); diff != "" {
		t.Error(diff)
	}
	for key, want := range map[string]string{
		"a/index.json": "index of a", "a/" + name("layer"): "layer", "c/d/" + name("layer"): "layer", "a/" + name("own"): "own", "a/" + name(""): "",
	} {
		r, size, err := tree.Open(key)
		if err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != want || size != int64(len(want)) {
			t.Errorf("%s: got %q of %d bytes, %v, want %q", key, got, size, err, want)
		}
		r.Close()
	}
	for _, key := range []string{"x/index.json", "a/" + name("lost"), "a/" + name("nothing")} {
		if _, _, err := tree.Open(key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got error %v, want that there is none", key, err)
		}
	}
	if _, err := OpenTree(t.Context(), config.Pool{StorageDriver: config.Driver{"name": "s3", "bucket": "none", "region": "us-east-1", "regionendpoint": server.URL, "accesskey": s3test.AccessKey, "secretkey": s3test.SecretKey}}); err == nil {
		t.Error("a bucket that is not there: no error")
	}
}
