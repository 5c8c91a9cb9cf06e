package s3_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestAnotherDigest commits uploads of several parts by digests that were not
// expected when their first parts went out.
func TestAnotherDigest(t *testing.T) {
	srv := s3test.Start(t)
	for _, root := range []string{newRoot(), newRoot() + "/a +b%41ü&?#x"} {
		t.Run(root, func(t *testing.T) {
			anotherDigest(t, openReplicas(t, 2, map[registry.Pool]config.Driver{"": srv.Driver(root)}))
		})
	}
}

func anotherDigest(t *testing.T, r *replicas) {
	data := noise(2*partSize+100, 1)
	right := registry.SHA256.FromBytes(data)
	start := func() registry.Upload {
		u, err := r.Start(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	check := func(s registry.Stored, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Verify(t.Context(), s, 0); err != nil {
			t.Error(err)
		}
	}

	// Committed as something else first.
	u := start()
	if _, err := r.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromString("else")); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Fatalf("got %v, want ErrDigestInvalid", err)
	}
	u, err := r.Status(t.Context(), u)
	if err != nil || u.Offset != int64(len(data)) {
		t.Fatalf("got %+v, %v, want all bytes", u, err)
	}
	check(r.Commit(t.Context(), u, nil, right))

	// By an algorithm that nobody told of.
	u, err = r.Append(t.Context(), start(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	check(r.Commit(t.Context(), u, nil, registry.SHA512.FromBytes(data)))

	// The same, and it is the wrong digest: this costs the upload.
	u, err = r.Append(t.Context(), start(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.Commit(t.Context(), u, nil, registry.SHA512.FromString("else")); !errors.Is(err, registry.ErrDigestInvalid) {
		t.Errorf("got %v, want ErrDigestInvalid", err)
	}
	if _, err := r.Status(t.Context(), u); !errors.Is(err, registry.ErrUploadUnknown) {
		t.Errorf("Status: got %v, want ErrUploadUnknown", err)
	}
	all, err := r.Copies(t.Context(), "", nil, 10)
	if err != nil || len(all) != 2 {
		t.Errorf("got copies %v, %v, want 2", all, err)
	}
}
