package gateway

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// raw sends bytes to the server at url, closes its side if asked to, and returns
// the answer, nil if there is none.
func raw(t *testing.T, url, request string, leave bool) *http.Response {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if leave {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	return res
}

// TestMalformedChunkedBodies: the client is told what is wrong, and where the
// session stands. A body that only ends too early is a client that has left.
func TestMalformedChunkedBodies(t *testing.T) {
	url := newWorld().serve(t)
	for what, tt := range map[string]struct {
		body   string
		leave  bool
		status int
		kept   string
	}{
		"no chunk size":     {"4\r\nberx\r\nzz\r\n", false, 400, "0-3"},
		"size too large":    {"4\r\nbert\r\nfffffffffffffffff\r\n", false, 400, "0-3"},
		"no end of a chunk": {"4\r\nberth\r\n0\r\n\r\n", false, 400, "0-3"},
		"endless size line": {"4\r\nbert\r\n" + strings.Repeat("0", 64<<10), false, 400, "0-3"},
		"cut in a chunk":    {"4\r\nbert\r\n8\r\nreg", true, 499, "0-6"},
		"cut between them":  {"4\r\nbert\r\n", true, 499, "0-3"},
	} {
		loc := do(t, "POST", url+"/v2/a/blobs/uploads/", nil).want(t, 202).header.Get("Location")
		res := raw(t, url, fmt.Sprintf("PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%s", loc, tt.body), tt.leave)
		if res == nil || res.StatusCode != tt.status || !res.Close {
			t.Errorf("%s: got %v, want %d and the end of the connection", what, res, tt.status)
			continue
		}
		if text, _ := io.ReadAll(res.Body); tt.status == 400 && (!strings.Contains(string(text), "SIZE_INVALID") || res.Header.Get("Range") != tt.kept) {
			t.Errorf("%s: got %v %s", what, res.Header, text)
		}
		if got := do(t, "GET", url+loc, nil).want(t, 204).header.Get("Range"); got != tt.kept {
			t.Errorf("%s: the session has %s, want %s", what, got, tt.kept)
		}
	}
	res := raw(t, url, "PUT /v2/a/manifests/t HTTP/1.1\r\nHost: x\r\nContent-Type: "+registry.TypeManifest+"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false)
	if res == nil || res.StatusCode != 400 {
		t.Errorf("manifest: got %v", res)
	}
}

// TestP82WarningsAreBounded: all of them together have 4,096 bytes at most.
func TestP82WarningsAreBounded(t *testing.T) {
	rec := httptest.NewRecorder()
	x := &exchange{w: rec}
	for range 10 {
		x.warn(strings.Repeat("w", 1000))
	}
	x.warn("short")
	total := 0
	for _, w := range rec.Header()["Warning"] {
		total += len(w)
		if !strings.HasPrefix(w, `299 - "`) || !strings.HasSuffix(w, `"`) {
			t.Errorf("got %.20s…", w)
		}
	}
	if n := len(rec.Header()["Warning"]); n != 5 || total > maxWarnings {
		t.Errorf("%d warnings of %d bytes; want the first four and the short one", n, total)
	}
}
