package allinone

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
)

// private is an upstream that serves one image, under every name, to those who know the
// password.
type private struct {
	*httptest.Server
	asked    atomic.Int64
	manifest []byte
	layer    []byte
}

func newPrivate(t *testing.T) *private {
	t.Helper()
	p := &private{layer: []byte("what nobody else may read")}
	at := func(b []byte) registry.Descriptor {
		return registry.Descriptor{MediaType: "application/octet-stream", Digest: registry.SHA256.FromBytes(b), Size: int64(len(b))}
	}
	var err error
	p.manifest, err = json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": registry.TypeManifest, "config": at(p.layer), "layers": []registry.Descriptor{at(p.layer)},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if user, pass, _ := r.BasicAuth(); user != "edge" || pass != "secret" {
			w.Header().Set("Www-Authenticate", `Basic realm="upstream"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		b, mediaType := p.manifest, registry.TypeManifest
		switch {
		case strings.Contains(r.URL.Path, "/blobs/"):
			b, mediaType = p.layer, "application/octet-stream"
		case !strings.Contains(r.URL.Path, "/manifests/"):
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", mediaType)
		_, _ = w.Write(b)
	}))
	t.Cleanup(p.Server.Close)
	return p
}

// TestS097CachedPrivateContent: what was fetched with our credentials is read by those
// whom the rules of its prefix let, and by nobody else: not before it is here, not
// after, by tag or digest, under whatever name, as a referrer or a mount. For a prefix
// of which the administrator says so everybody may.
func TestS097CachedPrivateContent(t *testing.T) {
	up := newPrivate(t)
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	htpasswd := filepath.Join(dir, "htpasswd")
	if err := os.WriteFile(htpasswd, []byte("alice:"+string(hash)+"\nbob:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rule := func(prefix, destination string) map[string]any {
		return map[string]any{
			"urls": []string{up.URL}, "onDemand": true, "content": []any{map[string]any{"prefix": prefix, "destination": destination}},
			"credentials": map[string]any{"username": "edge", "password": "secret"},
		}
	}
	host := strings.TrimPrefix(up.URL, "http://")
	byHost, _, _ := strings.Cut(host, ":")
	edge := startProgramOf(t, "edge", map[string]any{
		"storage": map[string]any{"rootDirectory": filepath.Join(dir, "root")},
		"log":     map[string]any{"level": "info"},
		"http": map[string]any{
			"address": "127.0.0.1", "port": "0", "auth": map[string]any{"htpasswd": map[string]any{"path": htpasswd}},
			"accessControl": map[string]any{"repositories": map[string]any{
				"**":           map[string]any{"anonymousPolicy": []string{"read"}},
				"closed/**":    map[string]any{"policies": []any{map[string]any{"users": []string{"alice"}, "actions": []string{"read"}}}},
				byHost + "/**": map[string]any{"policies": []any{map[string]any{"users": []string{"alice"}, "actions": []string{"read"}}}},
				"open/**":      map[string]any{"anonymousPolicy": []string{"read"}},
				"mine/**":      map[string]any{"anonymousPolicy": []string{"read", "create"}, "defaultPolicy": []string{"read", "create"}},
			}},
		},
		"extensions": map[string]any{"sync": map[string]any{"registries": []any{rule("team/**", "/closed"), rule("team/**", "/open")}}},
	}, everyPart())
	image, layer := registry.SHA256.FromBytes(up.manifest), registry.SHA256.FromBytes(up.layer)
	do := func(user, method, path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, edge.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			r.SetBasicAuth(user, "password")
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	closed := "/v2/closed/team/app"
	for _, when := range []string{"before it is here", "after"} {
		before := up.asked.Load()
		for _, user := range []string{"", "bob"} {
			for _, path := range []string{
				closed + "/manifests/v1", closed + "/manifests/" + string(image), closed + "/blobs/" + string(layer), closed + "/blobs/" + string(image),
				closed + "/tags/list", closed + "/referrers/" + string(image),
				"/v2/" + byHost + "/team/app/manifests/v1", "/v2/" + byHost + "/team/app/blobs/" + string(layer),
				"/v2/team/app/manifests/v1?ns=" + host, "/v2/team/app/blobs/" + string(layer) + "?ns=" + host,
				"/v2/mine/app/blobs/" + string(layer), "/v2/mine/app/manifests/" + string(image),
				"/api/v1/repositories/closed/team/app/-/manifests/v1?content=true", "/v2/_catalog", "/api/v1/repositories",
			} {
				for _, method := range []string{http.MethodGet, http.MethodHead} {
					lists := strings.HasSuffix(path, "/_catalog") || strings.HasSuffix(path, "/repositories")
					if lists && method == http.MethodHead {
						continue
					}
					status, body := do(user, method, path)
					if status < 400 != lists || strings.Contains(body, "closed/") || strings.Contains(body, string(up.layer)) || strings.Contains(body, string(layer)) && status < 400 {
						t.Errorf("%s: %s %s by %q: %d %s", when, method, path, user, status, body)
					}
				}
			}
			// A mount that may not be is an upload.
			if status, _ := do(user, http.MethodPost, "/v2/mine/app/blobs/uploads/?mount="+string(layer)+"&from=closed/team/app"); status == http.StatusCreated {
				t.Errorf("%s: a mount by %q: %d", when, user, status)
			}
		}
		if n := up.asked.Load() - before; n != 0 {
			t.Errorf("%s: the upstream was asked %d times for those who may not read", when, n)
		}
		for _, path := range []string{closed + "/manifests/v1", closed + "/blobs/" + string(layer)} {
			if status, body := do("alice", http.MethodGet, path); status != http.StatusOK {
				t.Fatalf("%s: %s by alice: %d %s", when, path, status, body)
			}
		}
	}
	for _, path := range []string{"/v2/open/team/app/manifests/v1", "/v2/open/team/app/blobs/" + string(layer)} {
		if status, body := do("", http.MethodGet, path); status != http.StatusOK {
			t.Errorf("%s by anybody: %d %s", path, status, body)
		}
	}
}
