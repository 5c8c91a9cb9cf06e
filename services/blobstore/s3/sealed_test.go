package s3

import (
	"bytes"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// dying passes requests on until the parts of an upload were put together, and answers
// all others then that it can't: the process ends there.
type dying struct {
	refusing
	dead atomic.Bool
}

func (s *dying) RoundTrip(r *http.Request) (*http.Response, error) {
	completes := r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
	defer func() {
		if completes {
			s.dead.Store(true)
		}
	}()
	return s.refusing.RoundTrip(r)
}

// To commit parts by an algorithm that nobody announced they are put together and read.
// A process that ends then leaves an object that the sweep finds.
func TestEndBehindParts(t *testing.T) {
	srv := s3test.Start(t)
	server := &dying{refusing: refusing{status: http.StatusForbidden, code: "AccessDenied"}}
	server.match = func(*http.Request) bool { return server.dead.Load() }
	server.left.Store(1 << 20)
	s, _ := openPools(t, srv.Driver("/behind"), Options{Transport: server})
	data := noise(9<<20, 1)
	u, err := s.Start(t.Context(), "", "")
	if err == nil {
		u, err = s.Append(t.Context(), u, bytes.NewReader(data[:100]))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(t.Context(), u, bytes.NewReader(data[100:]), registry.SHA512.FromBytes(data)); err == nil || !server.dead.Load() {
		t.Fatalf("Commit in a process that ends: %v", err)
	}
	_, d := openPools(t, srv.Driver("/behind"), Options{})
	if err := d.Sweep(t.Context(), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	left, _, err := d.client.list(t.Context(), d.keys.anonymous(), "", 10)
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
