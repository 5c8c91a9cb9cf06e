package allinone

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestP90Namespace: who says with ns which registry is meant gets that one's content, and
// is told so; the look-up is closed, and nothing can be changed through it.
func TestP90Namespace(t *testing.T) {
	hq := newEdge(t, false)
	hq.mirror.now = nothing{}
	d := hq.push("team/app", "v1", []byte("layer"))
	layer := registry.SHA256.FromString("layer")
	e := newEdge(t, false)
	e.start(fmt.Sprintf(`{"urls":[%q],"onDemand":true,"content":[{"prefix":"**"}]}`, hq.url))
	ns := strings.TrimPrefix(hq.url, "http://")
	e.push("team/app", "v1", []byte("what was pushed here")) // ns means the upstream's all the same
	ask := func(method, path, ns string) *http.Response {
		t.Helper()
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		req, err := http.NewRequestWithContext(t.Context(), method, e.url+path+sep+"ns="+url.QueryEscape(ns), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	reads := []string{
		"/v2/team/app/manifests/v1", "/v2/team/app/manifests/" + string(d), "/v2/team/app/blobs/" + string(layer),
		"/v2/team/app/referrers/" + string(d), "/v2/team/app/tags/list",
	}
	for _, path := range reads {
		resp := ask(http.MethodGet, path, ns)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Oci-Namespace") != ns {
			t.Errorf("GET %s: %s, Oci-Namespace %q", path, resp.Status, resp.Header.Get("Oci-Namespace"))
		}
		if got := resp.Header.Get("Docker-Content-Digest"); strings.Contains(path, "/manifests/") && got != string(d) {
			t.Errorf("GET %s: %s, want what is upstream, %s", path, got, d)
		}
		for _, unknown := range []string{"quay.io", "docker.io", "169.254.169.254", "user@" + ns, "http://" + ns, "../" + ns, strings.Repeat("a", 300)} {
			if resp := ask(http.MethodGet, path, unknown); resp.StatusCode != http.StatusNotFound || resp.Header.Get("Oci-Namespace") != "" {
				t.Errorf("GET %s of %.40q: %s", path, unknown, resp.Status)
			}
		}
	}
	for _, request := range []string{
		"POST /v2/team/app/blobs/uploads/", "POST /v2/team/app/blobs/uploads/?mount=" + string(layer) + "&from=team/app", "PUT /v2/team/app/manifests/v2",
		"DELETE /v2/team/app/manifests/v1", "DELETE /v2/team/app/blobs/" + string(layer),
	} {
		method, path, _ := strings.Cut(request, " ")
		for _, ns := range []string{ns, "quay.io"} {
			if resp := ask(method, path, ns); resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s with ns=%s: %s", request, ns, resp.Status)
			}
		}
	}
}
