package s3_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestRequests counts what a push and a pull cost: S3 bills each request, and
// each takes its time.
func TestRequests(t *testing.T) {
	proxy := s3test.NewProxy(t, s3test.Start(t))
	one := openReplicas(t, 2, map[registry.Pool]config.Driver{"": proxy.Driver(newRoot())})
	proxy.Counted()
	for _, test := range []struct {
		name   string
		size   int
		chunks int // sent before the last call
		want   map[string]int
	}{
		{"small", 1000, 0, map[string]int{"PUT blobs": 1, "PUT uploads": 1}},
		{"empty", 0, 0, map[string]int{"PUT blobs": 1, "PUT uploads": 1}},
		{"one part", partSize, 0, map[string]int{"PUT blobs": 1, "PUT uploads": 1}},
		{"three parts", 3*partSize - 100, 0, map[string]int{"POST uploads": 1, "PUT part": 3, "POST multipart": 1, "PUT sums": 1, "PUT uploads": 1}},
		{"six parts", 6 * partSize, 0, map[string]int{"POST uploads": 1, "PUT part": 6, "POST multipart": 1, "PUT sums": 1, "PUT uploads": 1}},
		// What a crash may lose is recorded every seven parts.
		{"thirteen parts", 13*partSize - 1, 0, map[string]int{"POST uploads": 1, "PUT part": 13, "POST multipart": 1, "PUT sums": 1, "PUT uploads": 2}},
		{"small by PATCH", 1000, 1, map[string]int{"PUT uploads": 2, "GET uploads": 1, "PUT blobs": 1}},
		{"three parts by PATCH", 3*partSize - 100, 1, map[string]int{
			"POST uploads": 1, "PUT part": 3, "POST multipart": 1, "PUT uploads": 2, "GET uploads": 1, "PUT names": 1, "PUT sums": 1,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			data := noise(test.size, 1)
			u, err := one.Start(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			if test.chunks > 0 {
				if u, err = one.Append(t.Context(), u, bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
			s, err := one.Commit(t.Context(), u, bytes.NewReader(data[u.Offset:]), registry.SHA256.FromBytes(data))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, proxy.Counted()); diff != "" {
				t.Errorf("push (-want +got):\n%s", diff)
			}
			if err := one.Verify(t.Context(), s, 0); err != nil {
				t.Fatal(err)
			}
			where := "GET blobs"
			switch {
			case test.size == 0:
				where = "HEAD blobs"
			case test.want["PUT names"] > 0:
				where = "GET data"
			}
			want := map[string]int{where: 1}
			if test.size > partSize {
				want["GET sums"] = 1
			}
			if diff := cmp.Diff(want, proxy.Counted()); diff != "" {
				t.Errorf("read (-want +got):\n%s", diff)
			}
		})
	}
}
