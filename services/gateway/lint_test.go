package gateway

import (
	"encoding/json"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestLint pushes images with and without what they must have.
func TestLint(t *testing.T) {
	w := newWorld()
	g := w.gateway(t)
	url := serveGateway(t, g)
	manifest := func(config, more string) string {
		d := pushBlob(t, url, "a", config)
		return `{"schemaVersion":2,"mediaType":"` + registry.TypeManifest + `","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"` +
			d.String() + `","size":` + strconv.Itoa(len(config)) + `},"layers":[]` + more + `}`
	}
	const (
		labelled = `{"config":{"Labels":{"vendor":"x","licenses":"MIT"}}}`
		half     = `{"config":{"Labels":{"vendor":"x"}}}`
	)
	g.SetLint([]string{"vendor", "licenses"})
	for _, test := range []struct {
		name, tag, manifest, mediaType string
		missing                        string // "" is accepted
	}{
		{"none", "v1", manifest("{}", ""), registry.TypeManifest, "vendor, licenses"},
		{"no configuration", "v1", manifest("no JSON", ""), registry.TypeManifest, "vendor, licenses"},
		{"labels", "v1", manifest(labelled, ""), registry.TypeManifest, ""},
		{"annotations", "v1", manifest("{}", `,"annotations":{"vendor":"","licenses":"MIT"}`), registry.TypeManifest, ""},
		{"one of each", "v1", manifest(half, `,"annotations":{"licenses":"MIT"}`), registry.TypeManifest, ""},
		{"half", "v1", manifest(half, ""), registry.TypeManifest, "licenses"},
		{"docker", "v1", strings.Replace(manifest("{}", ""), registry.TypeManifest, registry.TypeDockerManifest, 1), registry.TypeDockerManifest, "vendor, licenses"},
		{"index", "v1", `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`, registry.TypeIndex, ""},
		{"cosign by tag", "sha256-" + strings.Repeat("0a", 32) + ".sig", manifest("{}", ""), registry.TypeManifest, ""},
		{"almost cosign's tag", "sha256-0a.sig", manifest("{}", ""), registry.TypeManifest, "vendor, licenses"},
		{"cosign", "v1", manifest("{}", `,"artifactType":"application/vnd.dev.cosign.artifact.sig.v1+json"`), registry.TypeManifest, ""},
		{"bundle", "v1", manifest("{}", `,"artifactType":"application/vnd.dev.sigstore.bundle.v0.3+json"`), registry.TypeManifest, ""},
		{"notation", "v1", manifest("{}", `,"artifactType":"application/vnd.cncf.notary.signature"`), registry.TypeManifest, ""},
		{"chart", "v1", manifest("{}", `,"artifactType":"application/vnd.cncf.helm.config.v1+json"`), registry.TypeManifest, "vendor, licenses"},
	} {
		a := do(t, "PUT", url+"/v2/a/manifests/"+test.tag, strings.NewReader(test.manifest), "Content-Type: "+test.mediaType)
		if test.missing == "" {
			if a.status != 201 {
				t.Errorf("%s: got %d, %s", test.name, a.status, a.body)
			}
			continue
		}
		var e struct {
			Errors []struct {
				Code, Message string
				Detail        map[string]string
			}
		}
		if err := json.Unmarshal([]byte(a.body), &e); err != nil || a.status != 400 || len(e.Errors) != 1 {
			t.Errorf("%s: got %d, %s", test.name, a.status, a.body)
			continue
		}
		got := e.Errors[0]
		if got.Code != "MANIFEST_INVALID" || got.Detail["missingAnnotations"] != test.missing || got.Detail["reference"] != test.tag || !strings.Contains(got.Message, test.missing) {
			t.Errorf("%s: got %+v", test.name, got)
		}
	}
	do(t, "GET", url+"/v2/a/manifests/v1", nil).want(t, 200)
	g.SetLint(nil)
	pushImage(t, url, "a", "plain")
}

// TestLintTellsStrangersNothing: who may not push learns that, first.
func TestLintTellsStrangersNothing(t *testing.T) {
	w := newWorld()
	c := &guardedCatalog{Catalog: w.deps.Catalog}
	w.deps.Catalog = c
	g := w.gateway(t)
	url := serveGateway(t, g)
	pushBlob(t, url, "a", "{}")
	g.SetLint([]string{"vendor"})
	c.deny("a", registry.ErrDenied)
	do(t, "PUT", url+"/v2/a/manifests/v1", strings.NewReader(emptyImage), "Content-Type: "+registry.TypeManifest).want(t, 403)
}

// serveGateway starts a server of g and returns its URL.
func serveGateway(t *testing.T, g *Gateway) string {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.Config = g.Server()
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}
