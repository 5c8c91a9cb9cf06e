package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestFailures: every failure that a client can cause, each in the one form.
func TestFailures(t *testing.T) {
	base := newWorld(t).serve(t)
	in := "/repositories/a/-"
	nowhere := "/repositories/nowhere/-"
	for request, want := range map[string]string{
		"GET ":                                                      "404 EndpointUnknown",
		"GET /":                                                     "404 EndpointUnknown",
		"GET /x":                                                    "404 EndpointUnknown",
		"GET /repositories/":                                        "404 EndpointUnknown",
		"GET /repositories/a":                                       "404 EndpointUnknown",
		"GET /repositories/a/tags":                                  "404 EndpointUnknown",
		"GET " + in:                                                 "404 EndpointUnknown",
		"GET " + in + "/":                                           "404 EndpointUnknown",
		"GET " + in + "/tags/":                                      "400 TagInvalid",
		"GET " + in + "/blobs":                                      "404 EndpointUnknown",
		"GET " + in + "/tags/v1/histories":                          "404 EndpointUnknown",
		"GET /repositories/-/tags":                                  "400 NameInvalid",
		"GET /repositories//-/tags":                                 "400 NameInvalid",
		"PUT /repositories":                                         "405 Unsupported",
		"DELETE /health":                                            "405 Unsupported",
		"POST " + in + "/tags/v1":                                   "405 Unsupported",
		"PATCH " + in + "/manifests/v1":                             "405 Unsupported",
		"BREW " + in + "/blobs/" + unknown:                          "405 Unsupported",
		"POST /openapi.json":                                        "405 Unsupported",
		"GET " + nowhere + "/tags":                                  "404 NameUnknown",
		"GET " + nowhere + "/tags/v1":                               "404 NameUnknown",
		"GET " + nowhere + "/manifests/v1":                          "404 NameUnknown",
		"GET " + nowhere + "/blobs/" + unknown:                      "404 NameUnknown",
		"DELETE " + nowhere + "/tags/v1":                            "404 NameUnknown",
		"GET " + in + "/tags/never":                                 "404 ManifestUnknown",
		"GET " + in + "/manifests/never":                            "404 ManifestUnknown",
		"GET " + in + "/manifests/" + unknown:                       "404 ManifestUnknown",
		"GET " + in + "/blobs/" + unknown:                           "404 BlobUnknown",
		"DELETE " + in + "/tags/never":                              "404 ManifestUnknown",
		"DELETE " + in + "/manifests/" + unknown:                    "404 ManifestUnknown",
		"DELETE " + in + "/blobs/" + unknown:                        "404 BlobUnknown",
		"DELETE " + in + "/blobs/" + sum(layer):                     "409 InUse",
		"DELETE " + in + "/manifests/" + sum(image):                 "409 InUse",
		"DELETE " + in + "/tags/v1?ifDigest=" + sum(image):          "412 PreconditionFailed",
		"DELETE " + in + "/tags/v1?ifDigest=":                       "400 DigestInvalid",
		"DELETE " + in + "/tags/v1?ifDigest=sha256:x":               "400 DigestInvalid",
		"DELETE " + in + "/manifests/v1":                            "400 DigestInvalid",
		"DELETE " + in + "/blobs/v1":                                "400 DigestInvalid",
		"GET " + in + "/manifests/sha256:x":                         "400 DigestInvalid",
		"GET " + in + "/manifests/v1/referrers":                     "400 DigestInvalid",
		"GET " + in + "/tags/" + strings.Repeat("x", 129):           "400 TagInvalid",
		"GET " + in + "/tags/.x/history":                            "400 TagInvalid",
		"GET /repositories?limit=0":                                 "400 PageInvalid",
		"GET /repositories?limit=-1":                                "400 PageInvalid",
		"GET /repositories?limit=1001":                              "400 PageInvalid",
		"GET " + in + "/tags/v1/history?limit=1001":                 "400 PageInvalid",
		"GET /repositories?limit=2147483648":                        "400 ParameterInvalid",
		"GET /repositories?limit=99999999999999999999999":           "400 ParameterInvalid",
		"GET /repositories?limit=":                                  "400 ParameterInvalid",
		"GET /repositories?limit=1e3":                               "400 ParameterInvalid",
		"GET /repositories?limit=1&limit=2":                         "400 ParameterInvalid",
		"GET /repositories?Limit=1":                                 "400 ParameterInvalid",
		"GET /repositories?after=%00":                               "400 ParameterInvalid",
		"GET /repositories?after=%ff":                               "400 ParameterInvalid",
		"GET /repositories?after=%20":                               "400 PageInvalid",
		"GET /repositories?after=" + strings.Repeat("x", 256):       "400 PageInvalid",
		"GET /repositories?x=%zz":                                   "400 ParameterInvalid",
		"GET /repositories?a;b":                                     "400 ParameterInvalid",
		"GET /repositories?actor.id=root":                           "400 ParameterInvalid",
		"GET /health?x":                                             "400 ParameterInvalid",
		"GET " + in + "/tags?repository=b":                          "400 ParameterInvalid",
		"GET " + in + "/tags/v1?limit=1":                            "400 ParameterInvalid",
		"DELETE " + in + "/manifests/" + sum(image) + "?force=true": "400 ParameterInvalid",
		"DELETE " + in + "/tags/v1?if_digest=" + sum(image):         "400 ParameterInvalid",
		"GET " + in + "/manifests/v1?content=1":                     "400 ParameterInvalid",
		"GET " + in + "/manifests/v1?content=TRUE":                  "400 ParameterInvalid",
	} {
		method, path, _ := strings.Cut(request, " ")
		got := ask(t, method, base+path)
		o := object(t, got.body)
		if have := fmt.Sprintf("%d %v", got.status, o["code"]); have != want {
			t.Errorf("%s: got %s (%v), want %s", request, have, o["message"], want)
		}
		if text, _ := o["message"].(string); text == "" || strings.Contains(text, "rpc error") || strings.Contains(text, "proto") {
			t.Errorf("%s: got message %q", request, text)
		}
		if allow := got.header.Get("Allow"); (got.status == 405) != (allow != "") {
			t.Errorf("%s: Allow is %q", request, allow)
		}
		if got.header.Get("Content-Type") != "application/json" || got.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: got header %v", request, got.header)
		}
	}
}

// TestEveryCode: what the ports may return, with nothing of its cause.
func TestEveryCode(t *testing.T) {
	w := newWorld(t)
	failing := &failingCatalog{Catalog: w.catalog}
	w.catalog = failing
	base := w.serve(t)
	for _, code := range registry.Codes() {
		failing.err = fmt.Errorf("secret: %w", &registry.Error{Code: code, Message: "told", Detail: []string{"x"}, Err: errors.New("secret")})
		got := ask(t, "GET", base+"/repositories")
		want := code.HTTP()
		switch code {
		case registry.InUse:
			want = http.StatusConflict
		case registry.Unauthorized:
			want = http.StatusForbidden
		}
		if got.status != want || got.body != fmt.Sprintf(`{"code":%q,"message":"told","detail":["x"]}`+"\n", code) {
			t.Errorf("%v: got %d %s", code, got.status, got.body)
		}
		if retry := code.Kind() == registry.Passing || code == registry.TooManyRequests; (got.header.Get("Retry-After") != "") != retry {
			t.Errorf("%v: Retry-After is %q", code, got.header.Get("Retry-After"))
		}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("secret"), `500 {"code":"Internal","message":"internal error"}`},
		{context.DeadlineExceeded, `503 {"code":"Unavailable","message":"service unavailable"}`},
		{registry.ErrDenied.Detailed(make(chan int)), `403 {"code":"Denied","message":"requested access to the resource is denied to these credentials"}`},
	} {
		failing.err = test.err
		got := ask(t, "GET", base+"/repositories")
		if have := fmt.Sprintf("%d %s", got.status, strings.TrimSpace(got.body)); have != test.want {
			t.Errorf("%v: got %s, want %s", test.err, have, test.want)
		}
	}
	if !strings.Contains(w.log.String(), "secret") {
		t.Error("the cause is not in the log")
	}
}

// failingCatalog lists nothing but failures.
type failingCatalog struct {
	registry.Catalog
	err error
}

func (f *failingCatalog) Repositories(context.Context, registry.Actor, registry.Page[registry.Name]) (registry.List[registry.Name], error) {
	return registry.List[registry.Name]{}, f.err
}
