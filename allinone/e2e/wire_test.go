//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	image "github.com/opencontainers/image-spec/specs-go/v1"
)

// An answer is what the registry said to one request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends one request; path begins with /v2/ or is a whole URL.
func (s *System) ask(t *testing.T, method, path, mediaType string, body []byte) answer {
	t.Helper()
	url := path
	if strings.HasPrefix(path, "/") {
		url = s.URL() + path
	}
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	req.Header.Set("Accept", image.MediaTypeImageManifest+", "+image.MediaTypeImageIndex)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, data}
}

// expect sends a request whose answer must have the status.
func (s *System) expect(t *testing.T, status int, method, path string) answer {
	t.Helper()
	a := s.ask(t, method, path, "", nil)
	if a.status != status {
		t.Errorf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// get returns the body of what must be there.
func (s *System) get(t *testing.T, path string) []byte {
	t.Helper()
	return s.expect(t, http.StatusOK, http.MethodGet, path).body
}

// gone fails unless neither HEAD nor GET finds any of the paths.
func (s *System) gone(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		s.expect(t, http.StatusNotFound, http.MethodHead, path)
		s.expect(t, http.StatusNotFound, http.MethodGet, path)
	}
}

// tags returns the tags of a repository.
func (s *System) tags(t *testing.T, repo string) []string {
	t.Helper()
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.Unmarshal(s.get(t, "/v2/"+repo+"/tags/list"), &list); err != nil {
		t.Fatal(err)
	}
	return list.Tags
}

// referrers returns what the referrers API lists for d.
func (s *System) referrers(t *testing.T, repo string, d digest.Digest, filter string) []image.Descriptor {
	t.Helper()
	var list image.Index
	if err := json.Unmarshal(s.get(t, "/v2/"+repo+"/referrers/"+string(d)+filter), &list); err != nil {
		t.Fatal(err)
	}
	return list.Manifests
}

// pushLayout uploads a layout as builders do: each blob that is missing in one
// POST and one PUT, then the manifests from the leaves up, the root by its tag.
func (s *System) pushLayout(t *testing.T, repo string, l layout) {
	t.Helper()
	manifests, blobs := l.walk(t)
	for _, d := range blobs {
		if s.ask(t, http.MethodHead, "/v2/"+repo+"/blobs/"+string(d.Digest), "", nil).status == http.StatusOK {
			continue
		}
		a := s.expect(t, http.StatusAccepted, http.MethodPost, "/v2/"+repo+"/blobs/uploads/")
		to, sep := a.header.Get("Location"), "?"
		if strings.Contains(to, "?") {
			sep = "&"
		}
		a = s.ask(t, http.MethodPut, to+sep+"digest="+string(d.Digest), "application/octet-stream", l.read(t, d.Digest))
		if a.status != http.StatusCreated {
			t.Fatalf("pushing blob %s: %d %s", d.Digest, a.status, a.body)
		}
	}
	for _, d := range slices.Backward(manifests) {
		ref := string(d.Digest)
		if d.Digest == l.root.Digest {
			ref = "1"
		}
		a := s.ask(t, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, d.MediaType, l.read(t, d.Digest))
		if a.status != http.StatusCreated {
			t.Fatalf("pushing manifest %s: %d %s", d.Digest, a.status, a.body)
		}
	}
}

// serveLoopback serves h on a loopback address until t ends.
func serveLoopback(t *testing.T, h http.Handler) (addr string) {
	t.Helper()
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	return strings.TrimPrefix(front.URL, "http://")
}
