package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// echo is a REST API that says what it was asked.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodDelete {
		w.WriteHeader(http.StatusForbidden)
	}
	fmt.Fprintf(w, "%s %s", r.Method, r.URL.EscapedPath())
})

// TestRESTIsPassedOn: with path and method as they came, and nothing of the
// gateway's own in the answer.
func TestRESTIsPassedOn(t *testing.T) {
	var out logBuffer
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	w.deps.REST = echo
	url := w.serve(t)
	for _, test := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/api/v1/repositories/a%2Fb/-/tags", 200, "GET /api/v1/repositories/a%2Fb/-/tags"},
		{"DELETE", "/api/v1/x", 403, "DELETE /api/v1/x"},
		{"OPTIONS", "/api/v1/x", 200, "OPTIONS /api/v1/x"},
		{"HEAD", "/api/v1/x", 200, ""},
	} {
		got := do(t, test.method, url+test.path, nil, "Origin: http://evil.example")
		if got.status != test.status || got.body != test.body {
			t.Errorf("%s %s: got %d %q", test.method, test.path, got.status, got.body)
		}
		for key := range got.header {
			if strings.HasPrefix(key, "Access-Control") || strings.HasPrefix(key, "Docker") {
				t.Errorf("%s %s: got %s", test.method, test.path, key)
			}
		}
		var line struct {
			Path       string
			StatusCode int
			BodySize   int
		}
		if err := json.Unmarshal([]byte(out.take()), &line); err != nil || line.Path != test.path || line.StatusCode != test.status || line.BodySize != len(test.body) {
			t.Errorf("%s %s: logged %+v, %v", test.method, test.path, line, err)
		}
	}
}

// TestNoREST: a gateway without the API has no such paths; with it, only those.
func TestNoREST(t *testing.T) {
	url := newWorld().serve(t)
	do(t, "GET", url+"/api/v1/health", nil).want(t, 404)
	w := newWorld()
	w.deps.REST = echo
	url = w.serve(t)
	for _, path := range []string{"/api", "/api/", "/api/v1", "/api/v10/x", "/api/v2/x", "/API/v1/x", "//api/v1/x"} {
		if got := do(t, "GET", url+path, nil).want(t, 404); !strings.Contains(got.body, `"errors"`) {
			t.Errorf("%s: got %s", path, got.body)
		}
	}
}

// TestRESTClientLeaves: a write that fails ends the request as it does elsewhere.
func TestRESTClientLeaves(t *testing.T) {
	w := newWorld()
	w.deps.REST = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("a write to nobody succeeded")
		}
		if _, err := w.Write([]byte("x")); err == nil {
			t.Error("the second write succeeded")
		}
	})
	g := w.gateway(t)
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("got %v", v)
		}
	}()
	g.ServeHTTP(&gone{discard{h: http.Header{}}}, newRequest("GET", "/api/v1/x", ""))
}

// gone is a client that has left.
type gone struct{ discard }

func (*gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
