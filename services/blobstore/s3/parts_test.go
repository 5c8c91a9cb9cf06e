package s3

import (
	"errors"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// What an upload of too many parts gets says so, also if its last part went out because
// a call ended there.
func TestTooManyParts(t *testing.T) {
	_, d := openPools(t, s3test.Start(t).Driver("/many"), Options{})
	for _, saved := range []bool{false, true} {
		f, _, err := d.Resume(t.Context(), d.keys.newUploadID(d.now(), ""), 0)
		if err != nil {
			t.Fatal(err)
		}
		u := f.(*upload)
		for range maxParts - 1 {
			u.parts = append(u.parts, &part{done: sent, etag: "an ETag"})
		}
		if n, err := u.Write(t.Context(), make([]byte, partSize)); n != partSize || err != nil {
			t.Fatalf("the last part: %d bytes, %v", n, err)
		}
		if saved {
			if err := u.Sync(blobstore.State{Offset: maxParts * partSize}); err != nil {
				t.Fatal(err)
			}
		}
		if n, err := u.Write(t.Context(), []byte("x")); n != 0 || !errors.Is(err, registry.ErrTooLarge) {
			t.Errorf("saved %v: behind the last part: %d bytes, %v", saved, n, err)
		}
		u.Close()
	}
}
