package s3_test

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/rpc/rpctest"
	"github.com/berth-registry/berth/services/blobstore/s3/s3test"
)

// TestS075Presigned fetches a blob without any credentials of its own: whole, a
// range of it, and nothing else.
func TestS075Presigned(t *testing.T) {
	local := openStore(t, map[registry.Pool]config.Driver{"": s3test.Start(t).Driver(newRoot())})
	b := rpctest.Blobs(t, local)
	data := noise(100_000, 1)
	u, err := b.Start(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.Commit(t.Context(), u, bytes.NewReader(data), registry.SHA256.FromBytes(data))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := b.(registry.Presigner).Presign(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := url.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := strconv.Atoi(parsed.Query().Get("X-Amz-Expires")); err != nil || n <= 0 || n > 15*60 {
		t.Errorf("the URL lives for %d s, %v", n, err)
	}
	for _, test := range []struct {
		name, method, url, header string
		status                    int
		want                      []byte
	}{
		{"whole", "GET", signed, "", 200, data},
		{"range", "GET", signed, "bytes=10-19", 206, data[10:20]},
		{"another method", "DELETE", signed, "", 403, nil},
		{"another object", "GET", strings.Replace(signed, "/.berth/blobs/", "/.berth/data/", 1), "", 403, nil},
		{"longer", "GET", strings.Replace(signed, "X-Amz-Expires=9", "X-Amz-Expires=99", 1), "", 403, nil},
		{"no signature", "GET", parsed.Scheme + "://" + parsed.Host + parsed.Path, "", 403, nil},
	} {
		req, err := http.NewRequest(test.method, test.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if test.header != "" {
			req.Header.Set("Range", test.header)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != test.status || test.want != nil && !bytes.Equal(got, test.want) {
			t.Errorf("%s: got %d with %d bytes, %v; want %d", test.name, resp.StatusCode, len(got), err, test.status)
		}
	}
	if err := b.Verify(t.Context(), s, 0); err != nil {
		t.Error(err)
	}
	if _, err := b.(registry.Presigner).Presign(t.Context(), registry.Stored{Digest: s.Digest, Locator: "../x"}); err == nil {
		t.Error("a URL for a locator that is none")
	}
}
