package gateway

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/registry/metrics"
)

// world is a gateway over ports in memory. A test changes the fields it cares
// about before it calls gateway, serve or do.
type world struct {
	cfg    Config
	deps   Deps
	log    *slog.Logger
	closed bool // to who does not say who he is; see withIdentity
}

func newWorld() *world {
	return &world{
		cfg:  Defaults(),
		deps: Deps{Blobs: memory.NewBlobs(), Catalog: memory.NewCatalog(memory.CatalogOptions{})},
		log:  slog.New(slog.DiscardHandler),
	}
}

func (w *world) gateway(t testing.TB) *Gateway {
	t.Helper()
	g, err := New(w.cfg, w.deps, w.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// serve starts a server and returns its URL.
func (w *world) serve(t testing.TB) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = w.gateway(t).Server()
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// transport is the tests' own: a test server that ends closes the idle connections
// of [http.DefaultTransport], and so breaks requests of tests beside it.
var transport = http.DefaultTransport.(*http.Transport).Clone()

// do sends a request; headers are "Key: value".
func do(t testing.TB, method, url string, body io.Reader, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		req.Header.Add(key, value)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: reading the answer: %v", method, url, err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// want fails the test unless a has this status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("got status %d, want %d; body %q", a.status, status, a.body)
	}
	return a
}

// pushBlob stores content and returns its digest.
func pushBlob(t testing.TB, url, repo, content string, headers ...string) registry.Digest {
	t.Helper()
	d := registry.SHA256.FromString(content)
	do(t, "POST", url+"/v2/"+repo+"/blobs/uploads/?digest="+d.String(), strings.NewReader(content), headers...).want(t, 201)
	return d
}

// emptyImage is a manifest that needs the blob "{}" only.
const emptyImage = `{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`

// pushImage stores emptyImage under a tag and returns its digest.
func pushImage(t testing.TB, url, repo, tag string, headers ...string) registry.Digest {
	t.Helper()
	pushBlob(t, url, repo, "{}", headers...)
	do(t, "PUT", url+"/v2/"+repo+"/manifests/"+tag, strings.NewReader(emptyImage), append(headers, "Content-Type: "+registry.TypeManifest)...).want(t, 201)
	return registry.SHA256.FromString(emptyImage)
}

// process is one that tells load balancers nothing.
func process(version string, log *slog.Logger) daemon.Process {
	return daemon.Process{Version: version, Log: log, Metrics: metrics.New()}
}

// httpOf returns a config file that says h.
func httpOf(h config.HTTP) *config.Config {
	c := config.Defaults()
	c.HTTP = h
	return c
}

// TestMgmtTellsTheProgram: commit and binaryType are what zot has there, for the
// programs with search and without.
func TestMgmtTellsTheProgram(t *testing.T) {
	for _, test := range []struct {
		search http.Handler
		want   string
	}{
		{nil, "-events-imagetrust-lint-metrics-mgmt-scrub-sync-userprefs"},
		{http.NotFoundHandler(), "-events-imagetrust-lint-metrics-mgmt-scrub-search-sync-userprefs"},
	} {
		w := newWorld()
		w.cfg.Version, w.cfg.Commit, w.deps.Search = "v1", "v1-0-gabc", test.search
		got := do(t, "GET", w.serve(t)+"/v2/_zot/ext/mgmt", nil).want(t, 200)
		if !strings.Contains(got.body, `"commit":"v1-0-gabc","releaseTag":"v1","binaryType":"`+test.want+`"`) {
			t.Error(got.body)
		}
	}
}
