package transfer

import (
	"archive/tar"
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

// TestNothingSignedIsNothing adds what docker save writes to a signed export that has
// no layout, as one that found nothing new: the signature is good, and says nothing
// of what was added.
func TestNothingSignedIsNothing(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{"directory", "archive.tar"} {
		t.Run(form, func(t *testing.T) {
			store := Store{Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{}), Actor: registry.Actor{ID: "test", System: true}}
			dest := filepath.Join(t.TempDir(), form)
			e := Export{Store: store, Sign: &Key{public: public, private: private}}
			if _, err := e.Run(t.Context(), dest, nil); err != nil {
				t.Fatal(err)
			}
			i := Import{Store: store, Repo: "app", Verify: &Key{public: public}}
			if done, err := i.Run(t.Context(), dest); err != nil || done.Manifests != 0 {
				t.Errorf("as it was signed: %d manifests, %v", done.Manifests, err)
			}
			add(t, dest, "config", []byte("{}"))
			add(t, dest, "manifest.json", []byte(`[{"Config":"config","RepoTags":["app:v1"],"Layers":[]}]`))
			done, err := i.Run(t.Context(), dest)
			if done.Manifests != 0 {
				t.Errorf("%d manifests that nobody has signed were imported, %v", done.Manifests, err)
			}
			i.Verify = nil
			if done, err := i.Run(t.Context(), dest); err != nil || done.Manifests != 1 {
				t.Errorf("without a key: %d manifests, %v", done.Manifests, err)
			}
		})
	}
}

// add puts a file into a directory, or behind the others of an archive.
func add(t *testing.T, dest, name string, content []byte) {
	t.Helper()
	if filepath.Ext(dest) != ".tar" {
		if err := os.WriteFile(filepath.Join(dest, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	b, err := os.ReadFile(dest)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.NewBuffer(b[:len(b)-1024])
	w := tar.NewWriter(end)
	if err = w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}); err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err == nil {
		err = os.WriteFile(dest, end.Bytes(), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
