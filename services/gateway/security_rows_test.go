package gateway

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// TestS008DeletesAreOff: where nothing may be changed, no way to delete is left: by tag,
// by digest, a blob, an upload. What there is stays.
func TestS008DeletesAreOff(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	digest := pushImage(t, url, "a/b", "v1")
	loose := pushBlob(t, url, "a/b", "loose")
	if err := w.deps.Catalog.SetReadOnly(t.Context(), registry.Actor{System: true}, registry.ReadOnly{Repositories: "**", Reason: "archive"}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"manifests/v1", "manifests/" + string(digest), "blobs/" + string(loose)} {
		if got := do(t, "DELETE", url+"/v2/a/b/"+path, nil).want(t, 405); !strings.Contains(got.body, `"UNSUPPORTED"`) {
			t.Errorf("DELETE %s: %s", path, got.body)
		}
	}
	if got := do(t, "GET", url+"/v2/a/b/tags/list", nil).want(t, 200); !strings.Contains(got.body, `"v1"`) {
		t.Errorf("tags: %s", got.body)
	}
	do(t, "GET", url+"/v2/a/b/blobs/"+string(loose), nil).want(t, 200)
}

// TestS009DeletedBlobStaysDeleted: that another repository has a blob, and that it was
// just read there, brings it back nowhere.
func TestS009DeletedBlobStaysDeleted(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	digest := pushBlob(t, url, "one", "shared")
	pushBlob(t, url, "two", "shared")
	at := func(repo string) string { return url + "/v2/" + repo + "/blobs/" + string(digest) }
	for range 2 { // caches are warm
		do(t, "GET", at("one"), nil).want(t, 200)
		do(t, "GET", at("two"), nil).want(t, 200)
	}
	do(t, "DELETE", at("one"), nil).want(t, 202)
	for range 3 {
		do(t, "GET", at("two"), nil).want(t, 200)
		do(t, "GET", at("one"), nil).want(t, 404)
		do(t, "HEAD", at("one"), nil).want(t, 404)
		do(t, "GET", at("one"), nil, "Range: bytes=0-1").want(t, 404)
	}
}

// TestS017NoKnownPassword: nobody is there before an operator has made somebody, and the
// passwords that are tried first open nothing.
func TestS017NoKnownPassword(t *testing.T) {
	w := newWorld()
	if list, err := w.deps.Catalog.Users(t.Context(), registry.Actor{System: true}, registry.Page[string]{Limit: 10}); err != nil || len(list.Items) != 0 {
		t.Fatalf("a new catalog has users: %+v, %v", list.Items, err)
	}
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("# nobody yet\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := auth.OpenHTPasswd(file, auth.Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}, Slots: auth.NewSlots(2)})
	if err != nil {
		t.Fatal(err)
	}
	w.deps.Auth = auth.New(auth.Options{Closed: true, Methods: auth.Methods{Basic: []auth.Method{m}}})
	url := w.serve(t)
	for _, user := range []string{"admin", "root", "berth", "zot", "test"} {
		for _, password := range []string{"", "admin", "password", "secret", "changeme", "Harbor12345", "berth", "test", "test123"} {
			do(t, "GET", url+"/v2/", nil, basic(user, password)...).want(t, 401)
		}
	}
}

// TestS023BodiesAreSeenWhole: a manifest is judged by the bytes that are stored. One that
// comes packed, or whose lengths disagree, is refused or taken whole, never in part.
func TestS023BodiesAreSeenWhole(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	pushImage(t, url, "a/b", "base")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(emptyImage)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	got := do(t, "PUT", url+"/v2/a/b/manifests/packed", bytes.NewReader(packed.Bytes()), "Content-Type: "+registry.TypeManifest, "Content-Encoding: gzip")
	if got.status < 400 || got.status >= 500 {
		t.Errorf("a packed manifest: %d %s", got.status, got.body)
	}
	do(t, "GET", url+"/v2/a/b/manifests/packed", nil).want(t, 404)

	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "PUT /v2/a/b/manifests/smuggled HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n",
		registry.TypeManifest, len(emptyImage), emptyImage)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case 400, 411, 413:
		do(t, "GET", url+"/v2/a/b/manifests/smuggled", nil).want(t, 404)
	case 201:
		if body := do(t, "GET", url+"/v2/a/b/manifests/smuggled", nil).want(t, 200).body; body != emptyImage {
			t.Errorf("a part was stored: %q", body)
		}
	default:
		t.Errorf("two lengths: %d", res.StatusCode)
	}
}

// answerHeaders are all that answers below /v2/ may have.
var answerHeaders = []string{
	"Accept-Ranges", "Allow", "Blob-Upload-Uuid", "Cache-Control", "Connection", "Content-Disposition", "Content-Length", "Content-Range", "Content-Type", "Content-Security-Policy", "Date", "Docker-Content-Digest",
	"Docker-Distribution-Api-Version", "Docker-Upload-Uuid", "Blob-Upload-Session-Id", "Etag", "Last-Modified", "Link", "Location", "Oci-Chunk-Max-Length", "Oci-Chunk-Min-Length",
	"Oci-Filters-Applied", "Oci-Subject", "Oci-Tag", "Range", "Retry-After", "Transfer-Encoding", "Vary", "Warning", "Www-Authenticate", "X-Content-Type-Options", "X-Request-Id",
}

// TestS027HeadersOfAnswers: an answer has headers of ours and no others: ports pass bytes
// on and no headers, so what an object store or an upstream says of names reaches nobody.
func TestS027HeadersOfAnswers(t *testing.T) {
	w := newWorld()
	url := w.serve(t)
	digest := pushImage(t, url, "a/b", "v1")
	blob := pushBlob(t, url, "a/b", "content")
	known := map[string]bool{}
	for _, h := range answerHeaders {
		known[h] = true
	}
	for _, request := range []string{
		"GET /v2/", "GET /v2/_catalog?n=1", "GET /v2/a/b/tags/list", "GET /v2/a/b/manifests/v1", "HEAD /v2/a/b/manifests/v1", "GET /v2/a/b/blobs/" + string(blob),
		"HEAD /v2/a/b/blobs/" + string(blob), "GET /v2/a/b/referrers/" + string(digest), "POST /v2/a/b/blobs/uploads/", "POST /v2/c/blobs/uploads/?from=a/b&mount=" + string(blob),
		"GET /v2/a/b/manifests/none", "GET /v2/a/b/blobs/none", "DELETE /v2/a/b/manifests/v1", "PUT /v2/a/b/manifests/x",
	} {
		method, path, _ := strings.Cut(request, " ")
		got := do(t, method, url+path, nil, "X-Ms-Copy-Source: a", "X-Amz-Meta-Name: b", "Set-Cookie: c=d", "Server: e", "X-Forwarded-Host: evil.example")
		for key, values := range got.header {
			if !known[key] {
				t.Errorf("%s is answered with %s: %s", request, key, values)
			}
			if strings.Contains(fmt.Sprint(values), "evil.example") {
				t.Errorf("%s: %s is %s", request, key, values)
			}
		}
	}
}

// TestS029NothingIsNamed: whatever a stranger lists or searches, and whatever he asks for
// by a name that he guessed, the names of what he may not read are told nowhere.
func TestS029NothingIsNamed(t *testing.T) {
	w := matrixWorld(t)
	url := w.serve(t)
	digest := pushImage(t, url, "a/secret", "hidden-tag", "X-Test: owner")
	for _, role := range []string{"", "stranger", "owner/elsewhere"} {
		for _, path := range []string{
			"/v2/_catalog", "/v2/_catalog?n=1&last=a", "/v2/_oci/ext/discover", "/v2/_zot/ext/mgmt", "/v2/b/tags/list", "/v2/a/secret/tags/list", "/v2/a/secret/referrers/" + string(digest),
			"/v2/b/manifests/" + string(digest), "/v2/b/blobs/" + string(digest), "/metrics", "/readyz", "/",
		} {
			got := do(t, "GET", url+path, nil, "X-Test: "+role)
			for _, name := range []string{"a/secret", "hidden-tag"} {
				if strings.Contains(got.body, name) && !strings.Contains(path, name) || strings.Contains(fmt.Sprint(got.header), name) {
					t.Errorf("GET %s by %q: %d %s", path, role, got.status, got.body)
				}
			}
		}
		// A mount of what he may not read is no more than an upload.
		got := do(t, "POST", url+"/v2/b/blobs/uploads/?from=a/secret&mount="+string(digest), nil, "X-Test: "+role)
		if got.status == 201 || strings.Contains(got.body, "secret") {
			t.Errorf("mount by %q: %d %s", role, got.status, got.body)
		}
	}
}
