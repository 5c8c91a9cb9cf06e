package gateway

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// presigned is a blobstore whose blobs can be fetched elsewhere.
type presigned struct {
	registry.Blobs
	err error
}

func (p presigned) Presign(_ context.Context, s registry.Stored) (string, error) {
	return "https://s3.example/" + s.Digest.Encoded() + "?X-Amz-Signature=secret", p.err
}

// TestP76S075Redirect: what is sent elsewhere, and how.
func TestP76S075Redirect(t *testing.T) {
	const blob = "twenty bytes of blob"
	network := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	everywhere := Redirect{Pools: []registry.Pool{""}}
	for _, test := range []struct {
		name     string
		redirect Redirect
		err      error
		method   string
		headers  []string
		status   int
	}{
		{"whole", everywhere, nil, "GET", nil, 307},
		{"range", everywhere, nil, "GET", []string{"Range: bytes=2-5"}, 307},
		{"HEAD", everywhere, nil, "HEAD", nil, 200},
		{"two ranges that are longer than the whole", everywhere, nil, "GET", []string{"Range: bytes=0-0,2-2"}, 307},
		{"a range outside", everywhere, nil, "GET", []string{"Range: bytes=20-"}, 416},
		{"the client has it", everywhere, nil, "GET", []string{`If-None-Match: *`}, 304},
		{"off", Redirect{}, nil, "GET", nil, 200},
		{"another pool", Redirect{Pools: []registry.Pool{"/b"}}, nil, "GET", nil, 200},
		{"large enough", Redirect{Pools: []registry.Pool{""}, MinSize: 20}, nil, "GET", nil, 307},
		{"too small", Redirect{Pools: []registry.Pool{""}, MinSize: 21}, nil, "GET", nil, 200},
		{"in the network", Redirect{Pools: []registry.Pool{""}, Networks: network("127.0.0.0/8")}, nil, "GET", nil, 307},
		{"not in the network", Redirect{Pools: []registry.Pool{""}, Networks: network("10.0.0.0/8")}, nil, "GET", nil, 200},
		{"in a network without", Redirect{Pools: []registry.Pool{""}, ExceptNetworks: network("127.0.0.0/8")}, nil, "GET", nil, 200},
		{"not in a network without", Redirect{Pools: []registry.Pool{""}, ExceptNetworks: network("10.0.0.0/8")}, nil, "GET", nil, 307},
		{"a client that can't", Redirect{Pools: []registry.Pool{""}, ExceptAgents: []string{"kaniko"}}, nil, "GET", []string{"User-Agent: kaniko/1.0"}, 200},
		{"another client", Redirect{Pools: []registry.Pool{""}, ExceptAgents: []string{"kaniko"}}, nil, "GET", []string{"User-Agent: docker/27"}, 307},
		{"no URLs", everywhere, registry.ErrUnsupported, "GET", nil, 200},
		{"no URL now", everywhere, errors.New("no credentials"), "GET", nil, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld()
			w.cfg.Redirect = test.redirect
			w.deps.Blobs = presigned{w.deps.Blobs, test.err}
			url := w.serve(t)
			d := pushBlob(t, url, "r", blob)
			got := do(t, test.method, url+"/v2/r/blobs/"+d.String(), nil, test.headers...)
			if got.status != test.status && (test.status != 200 || got.status != 206) {
				t.Fatalf("got status %d, want %d", got.status, test.status)
			}
			location := got.header.Get("Location")
			if (got.status == 307) != (location != "") {
				t.Errorf("status %d and Location %q", got.status, location)
			}
			if got.status != 307 {
				return
			}
			if want := "https://s3.example/" + d.Encoded() + "?X-Amz-Signature=secret"; location != want {
				t.Errorf("got Location %q, want %q", location, want)
			}
			for key, want := range map[string]string{
				"Cache-Control": "private, no-store", "Referrer-Policy": "no-referrer",
				"Docker-Content-Digest": d.String(), "Content-Range": "", "Content-Length": "0",
			} {
				if v := got.header.Get(key); v != want {
					t.Errorf("%s: got %q, want %q", key, v, want)
				}
			}
			if got.body != "" {
				t.Errorf("a body of %d bytes", len(got.body))
			}
		})
	}
}

// TestRedirectOnlyKnown never names an object of a blob that the client may not
// read: the Catalog decides before.
func TestRedirectOnlyKnown(t *testing.T) {
	w := newWorld()
	w.cfg.Redirect = Redirect{Pools: []registry.Pool{""}}
	w.deps.Blobs = presigned{w.deps.Blobs, nil}
	url := w.serve(t)
	d := pushBlob(t, url, "one", "content")
	if got := do(t, "GET", url+"/v2/other/blobs/"+d.String(), nil); got.status != 404 || got.header.Get("Location") != "" {
		t.Errorf("a blob of another repository: got %d, %v", got.status, got.header)
	}
}
