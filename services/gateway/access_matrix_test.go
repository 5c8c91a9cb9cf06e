package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/gateway/search"
)

// matrixRoles ask in each row of the matrix, in this order: who has not said who he
// is, a user without rights here, one who may read, one who may read and create, one
// who may do all, and the last's token that is good for another repository only.
var matrixRoles = []string{"", "stranger", "reader", "creator", "owner", "owner/elsewhere"}

// matrixRow is what a route answers to each role.
type matrixRow struct {
	path string // %s is the digest of a manifest, %u an upload of the role's own
	want [6]int
}

// matrix has a row for each route and method. HEAD is as GET.
var matrix = map[resource]map[string]matrixRow{
	rootPage:    {"GET": {"/", [6]int{200, 200, 200, 200, 200, 200}}},
	livez:       {"GET": {"/livez", [6]int{200, 200, 200, 200, 200, 200}}},
	readyz:      {"GET": {"/readyz", [6]int{200, 200, 200, 200, 200, 200}}},
	startupz:    {"GET": {"/startupz", [6]int{200, 200, 200, 200, 200, 200}}},
	metricsPage: {"GET": {"/metrics", [6]int{401, 403, 200, 403, 403, 403}}}, // the reader is listed
	apiBase:     {"GET": {"/v2/", [6]int{200, 200, 200, 200, 200, 200}}},
	catalog:     {"GET": {"/v2/_catalog", [6]int{200, 200, 200, 200, 200, 200}}}, // see below
	discover:    {"GET": {"/v2/_oci/ext/discover", [6]int{200, 200, 200, 200, 200, 200}}},
	mgmt:        {"GET": {"/v2/_zot/ext/mgmt", [6]int{200, 200, 200, 200, 200, 200}}},
	// Where no signatures are verified there are no keys for that.
	cosignKeys:  {"POST": {"/v2/_zot/ext/cosign", [6]int{404, 404, 404, 404, 404, 404}}},
	notaryCerts: {"POST": {"/v2/_zot/ext/notation", [6]int{404, 404, 404, 404, 404, 404}}},
	searchAPI: {
		"GET":  {"/v2/_zot/ext/search?query=%7BImageList%7BTags%7D%7D", [6]int{200, 200, 200, 200, 200, 200}}, // see below
		"POST": {"/v2/_zot/ext/search", [6]int{200, 200, 200, 200, 200, 200}},
	},
	userPrefs: {"PUT": {"/v2/_zot/ext/userprefs?action=toggleStar&repo=a/secret", [6]int{401, 403, 200, 200, 200, 403}}},
	tagList:   {"GET": {"/v2/a/secret/tags/list", [6]int{401, 403, 200, 200, 200, 403}}},
	manifest: {
		"GET":    {"/v2/a/secret/manifests/t", [6]int{401, 403, 200, 200, 200, 403}},
		"PUT":    {"/v2/a/secret/manifests/t", [6]int{401, 403, 403, 403, 201, 403}}, // the tag exists
		"DELETE": {"/v2/a/secret/manifests/t", [6]int{401, 403, 403, 403, 202, 403}},
	},
	blob: {
		"GET":    {"/v2/a/secret/blobs/%s", [6]int{401, 403, 200, 200, 200, 403}},
		"DELETE": {"/v2/a/secret/blobs/%s", [6]int{401, 403, 403, 403, 405, 403}}, // it is a manifest
	},
	uploads: {"POST": {"/v2/a/secret/blobs/uploads/", [6]int{401, 403, 403, 202, 202, 403}}},
	upload: {
		"GET":    {"%u", [6]int{401, 403, 403, 204, 204, 403}},
		"PATCH":  {"%u", [6]int{401, 403, 403, 202, 202, 403}},
		"PUT":    {"%u", [6]int{401, 403, 403, 201, 201, 403}},
		"DELETE": {"%u", [6]int{401, 403, 403, 204, 204, 403}},
	},
	referrers: {"GET": {"/v2/a/secret/referrers/%s", [6]int{401, 403, 200, 200, 200, 403}}},
}

// TestS001Matrix asks every route for every role, and fails for a route that has no
// row. Who may not read is refused in the same words in a repository that there is not,
// and is shown nothing.
func TestS001Matrix(t *testing.T) {
	for res, m := range table() {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			_, row := matrix[resource(res)][method]
			if has := m.handler(method) != nil; has != row {
				t.Errorf("resource %d, %s: handled %v, in the matrix %v", res, method, has, row)
			}
		}
	}
	for res, rows := range matrix {
		for method, row := range rows {
			for i, role := range matrixRoles {
				w := matrixWorld(t)
				url := w.serve(t)
				digest := pushImage(t, url, "a/secret", "t", "X-Test: owner")
				methods := []string{method}
				if method == "GET" {
					methods = append(methods, "HEAD")
				}
				for _, method := range methods {
					path := matrixPath(t, url, row.path, role, digest)
					got := do(t, method, url+path, matrixBody(res, method), "X-Test: "+role, "Content-Type: "+matrixType(res))
					if got.status != row.want[i] {
						t.Errorf("%s %s by %q: %d, want %d: %s", method, row.path, role, got.status, row.want[i], got.body)
					}
					if role == "reader" || role == "creator" || row.want[i] != 401 && row.want[i] != 403 || !strings.Contains(path, "a/secret") || method == "HEAD" {
						continue
					}
					other := do(t, method, url+strings.ReplaceAll(path, "a/secret", "a/absent"), matrixBody(res, method), "X-Test: "+role, "Content-Type: "+matrixType(res))
					if other.status != got.status || other.body != got.body || strings.Contains(got.body, string(digest)) {
						t.Errorf("%s %s by %q: what is there is told from what is not: %d %s, %d %s", method, row.path, role, got.status, got.body, other.status, other.body)
					}
				}
			}
		}
	}
	w := matrixWorld(t)
	url := w.serve(t)
	pushImage(t, url, "a/secret", "t", "X-Test: owner")
	for i, sees := range []bool{false, false, true, true, true, false} {
		got := do(t, "GET", url+"/v2/_catalog", nil, "X-Test: "+matrixRoles[i]).want(t, 200)
		if strings.Contains(got.body, "a/secret") != sees {
			t.Errorf("the catalog for %q: %s", matrixRoles[i], got.body)
		}
		found := do(t, "GET", url+"/v2/_zot/ext/search?query=%7BImageList%7BTags%7D%7D", nil, "X-Test: "+matrixRoles[i]).want(t, 200)
		if strings.Contains(found.body, "a/secret:t") != sees {
			t.Errorf("a search of %q: %s", matrixRoles[i], found.body)
		}
	}
}

func matrixWorld(t *testing.T) *world {
	all := []string{"read", "create", "update", "delete"}
	p, err := access.Compile(&registry.AccessRules{
		Repositories: map[string]registry.RepositoryRules{"a/**": {Policies: []registry.AccessPolicy{
			{Users: []string{"owner"}, Actions: all}, {Users: []string{"reader"}, Actions: all[:1]}, {Users: []string{"creator"}, Actions: all[:2]},
		}}},
		Metrics: &registry.MetricsRules{Users: []string{"reader"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld()
	w.cfg.Metrics = "/metrics"
	w.deps.Catalog = memory.NewCatalog(memory.CatalogOptions{Access: p})
	if w.deps.Search, err = search.New(search.Options{Catalog: w.deps.Catalog}); err != nil {
		t.Fatal(err)
	}
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		user, limited, _ := strings.Cut(r.Header.Get("X-Test"), "/")
		a := registry.Actor{ID: user}
		if limited != "" {
			a.Scope = []registry.Grant{{Repositories: "b/**", Actions: registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete}}
		}
		return a, nil
	})
	return w
}

// matrixPath fills in a row's path. Who may not begin an upload asks for the owner's.
func matrixPath(t *testing.T, url, path, role string, d registry.Digest) string {
	t.Helper()
	if path != "%u" {
		return strings.ReplaceAll(path, "%s", string(d))
	}
	if role != "creator" {
		role = "owner"
	}
	at := do(t, "POST", url+"/v2/a/secret/blobs/uploads/", nil, "X-Test: "+role).want(t, 202).header.Get("Location")
	return at + "&digest=" + string(registry.SHA256.FromString("x"))
}

func matrixBody(res resource, method string) *strings.Reader {
	switch {
	case method == "GET" || method == "HEAD" || method == "DELETE" || res == uploads:
		return strings.NewReader("")
	case res == manifest:
		return strings.NewReader(emptyImage)
	case res == searchAPI:
		return strings.NewReader(`{"query":"{ImageList{Tags}}"}`)
	}
	return strings.NewReader("x")
}

func matrixType(res resource) string {
	if res == manifest {
		return registry.TypeManifest
	}
	return "application/octet-stream"
}

// TestS011UploadsOfOthers are unknown to whoever did not begin them, with the right to
// push too, and under other repositories.
func TestS011UploadsOfOthers(t *testing.T) {
	w := matrixWorld(t)
	url := w.serve(t)
	at := do(t, "POST", url+"/v2/a/secret/blobs/uploads/", nil, "X-Test: owner").want(t, 202).header.Get("Location")
	for _, method := range []string{"GET", "PATCH", "PUT", "DELETE"} {
		for _, path := range []string{at, strings.Replace(at, "a/secret", "a/other", 1)} {
			got := do(t, method, url+path+"&digest="+string(registry.SHA256.FromString("x")), strings.NewReader("x"), "X-Test: creator")
			if got.status != 404 || !strings.Contains(got.body, "BLOB_UPLOAD_UNKNOWN") && method != "HEAD" {
				t.Errorf("%s: %d %s", method, got.status, got.body)
			}
		}
	}
	do(t, "PUT", url+at+"&digest="+string(registry.SHA256.FromString("x")), strings.NewReader("x"), "X-Test: owner").want(t, 201)
}

// TestConditionsAreTold checks what the catalog learns of a request.
func TestConditionsAreTold(t *testing.T) {
	r, _ := http.NewRequest("PUT", "/", nil)
	r.RemoteAddr = "10.0.0.1:99"
	r.Header = http.Header{"User-Agent": {"crane/1"}, "X-Forwarded-For": {"1.1.1.1, 2.2.2.2", "3.3.3.3"}}
	got := fmt.Sprintf("%+v", asks(r))
	want := "{Method:PUT UserAgent:crane/1 ClientIP:10.0.0.1 ForwardedFor:[1.1.1.1 2.2.2.2 3.3.3.3] TLS:}"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for range 100 {
		r.Header.Add("X-Forwarded-For", "4.4.4.4")
	}
	if n := len(asks(r).ForwardedFor); n != maxForwarded {
		t.Errorf("%d addresses", n)
	}
}
