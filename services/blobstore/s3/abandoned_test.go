package s3_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/blobstore/s3"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// gate holds the first request that matches until it is opened.
type gate struct {
	match func(*http.Request) bool
	once  sync.Once
	hit   chan struct{} // closed when that request is there
	open  chan struct{}
}

func newGate(match func(*http.Request) bool) *gate {
	return &gate{match: match, hit: make(chan struct{}), open: make(chan struct{})}
}

// RoundTrip implements [http.RoundTripper].
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.match(r) {
		g.once.Do(func() {
			close(g.hit)
			<-g.open
		})
	}
	return http.DefaultTransport.RoundTrip(r)
}

// Two replicas have one upload. A slow commit of the first is held by the gate
// while the second gives the upload up and is asked to commit it, too. It must
// not find what the first has made so far: that may hold other bytes than the
// digest says, and will be removed.
func TestCommitOfAnAbandonedUpload(t *testing.T) {
	small, large := noise(1000, 1), noise(9<<20, 2)
	for _, c := range []struct {
		name  string
		held  func(*http.Request) bool
		first []byte // appended before
		last  []byte
		want  registry.Digest
	}{
		{
			"bytes not verified yet",
			func(r *http.Request) bool {
				return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/data/")
			},
			small, large, registry.SHA512.FromString("something else"),
		},
		{
			"state not written yet",
			func(r *http.Request) bool {
				return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/state")
			},
			nil, small, registry.SHA256.FromBytes(small),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			drivers := map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())}
			g := newGate(c.held)
			slow := openStoreWith(t, drivers, s3.Options{Transport: g, Idle: time.Minute})
			other := openStoreWith(t, drivers, s3.Options{})
			u, err := other.Start(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			if c.first != nil {
				if u, err = other.Append(t.Context(), u, bytes.NewReader(c.first)); err != nil {
					t.Fatal(err)
				}
			}
			ended := make(chan error, 1)
			go func() {
				_, err := slow.Commit(t.Context(), u, bytes.NewReader(c.last), c.want)
				ended <- err
			}()
			<-g.hit
			if err := other.Abort(t.Context(), u); err != nil {
				t.Fatal(err)
			}
			if s, err := other.Commit(t.Context(), u, nil, c.want); err == nil {
				t.Errorf("it committed %v", s)
			}
			close(g.open)
			if err := <-ended; err == nil {
				t.Error("the slow commit of an upload that was given up succeeded")
			}
		})
	}
}
