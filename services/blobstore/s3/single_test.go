package s3

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/registrytest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// unconditional is a server without conditional writes: it answers those with
// status 501, or does as if there were no condition.
type unconditional struct {
	ignores bool
	met     atomic.Int64
}

func (u *unconditional) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPut || r.Header.Get("If-Match") == "" && r.Header.Get("If-None-Match") == "" {
		return http.DefaultTransport.RoundTrip(r)
	}
	u.met.Add(1)
	answer := &http.Response{
		StatusCode: http.StatusNotImplemented, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: http.Header{"Content-Type": {"application/xml"}},
		Body:   io.NopCloser(strings.NewReader(`<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented</Message></Error>`)),
	}
	if u.ignores {
		answer.StatusCode, answer.Body = http.StatusOK, http.NoBody
		answer.Header = http.Header{"Etag": {`"0123456789abcdef0123456789abcdef"`}}
	}
	return answer, nil
}

func s3Config(t *testing.T, d config.Driver) config.S3 {
	t.Helper()
	cfg, err := config.Pool{StorageDriver: d}.S3()
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A server that has no conditional writes is refused, and the error says what to
// do, unless the config promises that nobody else writes.
func TestUnconditionalServer(t *testing.T) {
	srv := s3test.Start(t)
	for name, server := range map[string]*unconditional{"refuses": {}, "ignores": {ignores: true}} {
		t.Run(name, func(t *testing.T) {
			drv := srv.Driver("/unconditional-" + name)
			_, err := Open(t.Context(), s3Config(t, drv), Options{Transport: server})
			if !errors.Is(err, errUnconditional) || !strings.Contains(err.Error(), "singleWriter") {
				t.Fatalf("got %v", err)
			}
			server.met.Store(0)
			drv["singlewriter"] = true
			if server.ignores {
				return // no conditional write is asked for, so the suite below would be the same
			}
			registrytest.Blobs(t, registrytest.BlobsBackend{
				New: func(t *testing.T) registry.Blobs {
					drv["rootdirectory"] = "/" + name + "/" + newNonce()
					store, _ := openPools(t, drv, Options{Transport: server})
					return store
				},
			})
			if n := server.met.Load(); n != 0 {
				t.Errorf("%d conditional writes were asked for", n)
			}
		})
	}
}

// With singleWriter two calls of one process still can't both continue an upload
// from the same place.
func TestSingleWriterNoticesChanges(t *testing.T) {
	drv := s3test.Start(t).Driver("/single")
	drv["singlewriter"] = true
	_, d := openPools(t, drv, Options{Transport: &unconditional{}})
	id := registry.NewUploadID(d.now())
	write := func(etag string) (string, error) {
		return d.writeState(t.Context(), id, record{Writer: newNonce(), Ended: aborted}, nil, etag)
	}
	first, err := write("")
	if err != nil {
		t.Fatal(err)
	}
	for _, etag := range []string{"", `"00000000000000000000000000000000"`} {
		if _, err := write(etag); !errors.Is(err, errChanged) && !errors.As(err, new(*conflict)) {
			t.Errorf("writing over %q: %v", etag, err)
		}
	}
	if _, err := write(first); err != nil {
		t.Error(err)
	}
}
