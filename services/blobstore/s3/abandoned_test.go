package s3_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
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

// deaf lets no request through from the first that matches on.
type deaf struct {
	match func(*http.Request) bool
	gone  atomic.Bool
}

// RoundTrip implements [http.RoundTripper].
func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.match(r) {
		d.gone.Store(true)
	}
	if d.gone.Load() {
		return nil, errors.New("the machine has ended")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func writesState(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/state")
}

func completes(r *http.Request) bool {
	return r.Method == http.MethodPost && r.URL.Query().Has("uploadId")
}

// TestCommitWhoseCallerLeft: when a caller leaves in the middle of a commit, what is left
// to do is done: else an upload would be left that can't be continued.
func TestCommitWhoseCallerLeft(t *testing.T) {
	for name, held := range map[string]func(*http.Request) bool{"completing": completes, "noting": writesState} {
		t.Run(name, func(t *testing.T) {
			drivers := map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())}
			other := openStoreWith(t, drivers, s3.Options{})
			all := noise(9<<20, 3)
			u := appended(t, other, all)
			g := newGate(held)
			s := openStoreWith(t, drivers, s3.Options{Transport: g})
			ctx, leave := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				_, err := s.Commit(ctx, u, nil, registry.SHA256.FromBytes(all))
				ended <- err
			}()
			<-g.hit
			leave()
			close(g.open)
			if err := <-ended; err != nil {
				t.Errorf("the commit: %v", err)
			}
			checkCommittable(t, other, u, all)
		})
	}
}

// TestCommitThatEndsInTheMiddle: when the process ends after the parts have become one
// object, the upload is no damage: a commit finds the object.
func TestCommitThatEndsInTheMiddle(t *testing.T) {
	drivers := map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())}
	other := openStoreWith(t, drivers, s3.Options{})
	all := noise(9<<20, 4)
	u := appended(t, other, all)
	s := openStoreWith(t, drivers, s3.Options{Transport: &deaf{match: writesState}})
	if _, err := s.Commit(t.Context(), u, nil, registry.SHA256.FromBytes(all)); err == nil {
		t.Fatal("void: it was committed")
	}
	checkCommittable(t, other, u, all)
}

// appended returns an upload of content.
func appended(t *testing.T, s *store, content []byte) registry.Upload {
	t.Helper()
	u, err := s.Start(t.Context(), "", "")
	if err == nil {
		u, err = s.Append(t.Context(), u, bytes.NewReader(content))
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// checkCommittable checks that no upload is damaged, and that one of content is committed
// by whoever asks for that again.
func checkCommittable(t *testing.T, s *store, u registry.Upload, content []byte) {
	t.Helper()
	for f, err := range s.CheckUploads(t.Context()) {
		t.Errorf("finding %+v, error %v", f, err)
	}
	again, err := s.Commit(t.Context(), u, nil, registry.SHA256.FromBytes(content))
	if err != nil || again.Size != int64(len(content)) {
		t.Errorf("the commit again: %+v, %v", again, err)
	}
}
