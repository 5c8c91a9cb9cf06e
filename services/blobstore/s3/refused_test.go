package s3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// refusing answers the next few requests that match with an error instead of passing
// them on.
type refusing struct {
	match  func(*http.Request) bool
	status int
	code   string
	left   atomic.Int64 // how many
}

// RoundTrip implements [http.RoundTripper].
func (s *refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	if !s.match(r) || s.left.Add(-1) < 0 {
		return http.DefaultTransport.RoundTrip(r)
	}
	if r.Body != nil {
		r.Body.Close()
	}
	return &http.Response{
		StatusCode: s.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}},
		Body:   io.NopCloser(strings.NewReader(`<?xml version="1.0"?><Error><Code>` + s.code + `</Code><Message>on purpose</Message></Error>`)),
	}, nil
}

func putOfState(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/state")
}

// S3 answers a conditional write with 409 while another request for the same key is
// under way, as an earlier attempt of the same write may be: it asks to try again, and
// says nothing of the upload.
func TestConflictThatPasses(t *testing.T) {
	for _, code := range []string{"ConditionalRequestConflict", "OperationAborted"} {
		t.Run(code, func(t *testing.T) {
			server := &refusing{match: putOfState, status: http.StatusConflict, code: code}
			s, _ := openPools(t, s3test.Start(t).Driver("/conflict"), Options{Transport: server})
			u, err := s.Start(t.Context(), "", "")
			for i, piece := range []string{"first", "second"} { // there is no state; there is one
				server.left.Store(1)
				if err == nil {
					u, err = s.Append(t.Context(), u, strings.NewReader(piece))
				}
				if err != nil {
					t.Fatalf("piece %d: %v", i+1, err)
				}
			}
			server.left.Store(1000)
			if _, err := s.Append(t.Context(), u, strings.NewReader("third")); !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("Append while it does not pass: %v", err)
			}
			server.left.Store(1)
			if _, err := s.Commit(t.Context(), u, nil, registry.SHA256.FromString("firstsecond")); err != nil {
				t.Errorf("Commit: %v", err)
			}
		})
	}
}
