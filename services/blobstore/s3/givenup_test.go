package s3

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// A push that fails when all but its end is recorded, and is given up, leaves nothing
// but the note that it was.
func TestGivenUpAtTheEnd(t *testing.T) {
	var sums atomic.Bool
	server := &refusing{status: http.StatusForbidden, code: "AccessDenied", match: func(r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/sums/") {
			sums.Store(true)
		}
		return sums.Load() && putOfState(r)
	}}
	s, d := openPools(t, s3test.Start(t).Driver("/given-up"), Options{Transport: server})
	data := noise(9<<20, 1)
	u, err := s.Start(t.Context(), "", registry.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	server.left.Store(1)
	if _, err := s.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data)); !errors.Is(err, registry.ErrUnavailable) {
		t.Fatalf("Commit: %v", err)
	}
	if err := s.Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	left, _, err := d.client.list(t.Context(), d.keys.home, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range left {
		if o.key != d.keys.state(u.ID) {
			t.Errorf("left: %s, %d bytes", o.key, o.size)
		}
	}
}
