package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	apiv1 "github.com/berth-registry/berth/proto/gen/berth/api/v1"
)

// document is the part of an OpenAPI 2.0 document that the tests look at.
type document struct {
	Info  struct{ Title, Description, Version string }
	Tags  []struct{ Name, Description string }
	Paths map[string]map[string]struct {
		Summary, OperationID string
		Tags                 []string
		Parameters           []struct {
			Name, In, Type, Description string
			Required                    bool
		}
		Responses map[string]struct {
			Description string
			Schema      struct {
				Ref string `json:"$ref"`
			}
		}
	}
	Definitions map[string]struct {
		Type, Description string
		Properties        map[string]struct{ Description string }
	}
}

func parseDocument(t testing.TB) document {
	t.Helper()
	var d document
	if err := json.Unmarshal(OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDocumentIsComplete: everything is described, tagged and known, and every
// method says how it fails.
func TestDocumentIsComplete(t *testing.T) {
	d := parseDocument(t)
	if d.Info.Title == "" || d.Info.Description == "" || d.Info.Version != "v1" {
		t.Errorf("info is %+v", d.Info)
	}
	tags, ids := map[string]bool{}, map[string]bool{}
	for _, tag := range d.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	used, shapes := map[string]bool{}, map[string]bool{}
	for path, methods := range d.Paths {
		shape := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "{}")
		if shapes[shape] {
			t.Errorf("%s is there twice, with other names", path)
		}
		shapes[shape] = true
		for method, op := range methods {
			at := method + " " + path
			if !strings.HasPrefix(path, Base+"/") || op.Summary == "" || op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: summary %q, id %q", at, op.Summary, op.OperationID)
			}
			ids[op.OperationID] = true
			if len(op.Tags) != 1 || !tags[op.Tags[0]] {
				t.Errorf("%s: tags %q", at, op.Tags)
			} else {
				used[op.Tags[0]] = true
			}
			inPath := 0
			for _, p := range op.Parameters {
				if path == reviewPath && p.In == "body" && p.Name == "rules" && p.Description != "" {
					continue // the one body: whoever reads it checks it
				}
				if p.Description == "" || p.In != "path" && p.In != "query" || (p.In == "path") != p.Required {
					t.Errorf("%s: %+v", at, p)
				}
				if p.In == "path" {
					inPath++
					if !strings.Contains(path, "{"+p.Name+"}") {
						t.Errorf("%s has no %s", at, p.Name)
					}
				}
				if p.Type != "string" && p.Type != "integer" && p.Type != "boolean" {
					t.Errorf("%s: %s is of type %s, which nobody checks", at, p.Name, p.Type)
				}
			}
			if inPath != strings.Count(path, "{") {
				t.Errorf("%s: %d parameters in the path", at, inPath)
			}
			if op.Responses["default"].Schema.Ref != "#/definitions/Error" || op.Responses["200"].Schema.Ref == "" {
				t.Errorf("%s: responses %+v", at, op.Responses)
			}
		}
	}
	if len(used) != len(tags) {
		t.Errorf("tags that nothing has: %v of %v", used, tags)
	}
	for name, def := range d.Definitions {
		if def.Description == "" && name != "protobufNullValue" {
			t.Errorf("definition %s has no description", name)
		}
		for p, v := range def.Properties {
			if v.Description == "" {
				t.Errorf("definition %s: property %s has no description", name, p)
			}
		}
	}
	for _, ref := range regexp.MustCompile(`#/definitions/([\w.]+)`).FindAllSubmatch(OpenAPI, -1) {
		if _, ok := d.Definitions[string(ref[1])]; !ok {
			t.Errorf("%s is not defined", ref[0])
		}
	}
	if regexp.MustCompile(`(?i)todo|fixme`).Match(OpenAPI) {
		t.Error("something is left to do")
	}
}

// nobody serves nothing, but says what it was asked.
type nobody struct {
	apiv1.UnimplementedRegistryServiceServer
}

// TestEveryMethodIsDocumented: each method of the service has an annotation, is
// in the document, and is what its path leads to.
func TestEveryMethodIsDocumented(t *testing.T) {
	source, err := os.ReadFile("../../../proto/berth/api/v1/api.proto")
	if err != nil {
		t.Fatal(err)
	}
	annotated := map[string]string{}
	for _, m := range regexp.MustCompile(`rpc (\w+)\([^{]*\{\s*option \(google\.api\.http\) = \{\s*(\w+): "([^"]+)"(?:\s*body: "\w+")?\s*\}`).FindAllSubmatch(source, -1) {
		annotated[string(m[1])] = string(m[2]) + " " + strings.ReplaceAll(string(m[3]), "=**}", "}")
	}
	documented := map[string]string{}
	for path, methods := range parseDocument(t).Paths {
		for method, op := range methods {
			documented[strings.TrimPrefix(op.OperationID, "RegistryService_")] = method + " " + path
		}
	}
	if diff := cmp.Diff(annotated, documented); diff != "" {
		t.Errorf("annotations and document: %s", diff)
	}
	mux := runtime.NewServeMux(runtime.WithErrorHandler(func(_ context.Context, _ *runtime.ServeMux, _ runtime.Marshaler, w http.ResponseWriter, _ *http.Request, err error) {
		w.Header().Set("Error", err.Error())
	}))
	if err := apiv1.RegisterRegistryServiceHandlerServer(t.Context(), mux, nobody{}); err != nil {
		t.Fatal(err)
	}
	for _, m := range apiv1.RegistryService_ServiceDesc.Methods {
		method, path, _ := strings.Cut(documented[m.MethodName], " ")
		path = regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, "x/y")
		path = strings.Replace(path, "/-/tags/x/y", "/-/tags/x", 1)
		path = strings.Replace(strings.Replace(path, "manifests/x/y", "manifests/x", 1), "blobs/x/y", "blobs/x", 1)
		path = strings.Replace(path, "rollback/x/y", "rollback/x", 1)
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(strings.ToUpper(method), path, nil))
		if got := rec.Header().Get("Error"); !strings.HasSuffix(got, "method "+m.MethodName+" not implemented") {
			t.Errorf("%s %s does not lead to %s: %s", method, path, m.MethodName, got)
		}
	}
}

func TestDocumentIsServed(t *testing.T) {
	base := newWorld(t).serve(t)
	got := ask(t, "GET", base+"/openapi.json")
	if got.status != 200 || got.body != string(OpenAPI) || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %v", got.status, got.header)
	}
}

// TestAllow: OPTIONS and 405 tell the methods of a path.
func TestAllow(t *testing.T) {
	base := newWorld(t).serve(t)
	for path, want := range map[string]string{
		"/health":                                     "GET, HEAD, OPTIONS",
		"/openapi.json":                               "GET, HEAD, OPTIONS",
		"/repositories":                               "GET, HEAD, OPTIONS",
		"/repositories/nowhere/-/tags":                "GET, HEAD, OPTIONS",
		"/repositories/nowhere/-/tags/x":              "DELETE, GET, HEAD, OPTIONS",
		"/repositories/tags/-/tags/x/history":         "GET, HEAD, OPTIONS",
		"/repositories/a/b/-/manifests/x":             "DELETE, GET, HEAD, OPTIONS",
		"/repositories/a/-/manifests/x/referrers":     "GET, HEAD, OPTIONS",
		"/repositories/a/-/blobs/x":                   "DELETE, GET, HEAD, OPTIONS",
		"/repositories/a/-/manifests/x/unknown-thing": "",
	} {
		for method, status := range map[string]int{"OPTIONS": 204, "PUT": 405} {
			if want == "" {
				status = 404
			}
			got := ask(t, method, base+path)
			if got.status != status || got.header.Get("Allow") != want {
				t.Errorf("%s %s: got %d, Allow %q, want %q", method, path, got.status, got.header.Get("Allow"), want)
			}
		}
	}
}
