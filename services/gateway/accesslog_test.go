package gateway

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/tracing"
	"github.com/google/go-cmp/cmp"
)

// logBuffer collects records, each of which is one line.
type logBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.buf.Reset()
	return b.buf.String()
}

func TestAccessLogHasZotsShape(t *testing.T) {
	var out logBuffer
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	w.deps.Auth = askedBy(func(r *http.Request) (registry.Actor, error) {
		user, _, _ := r.BasicAuth()
		return registry.Actor{ID: user}, nil
	})
	g := w.gateway(t)
	serve := func(method, target string, body string, headers ...string) (map[string]any, string) {
		r := newRequest(method, target, body)
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			r.Header.Set(k, v)
		}
		g.ServeHTTP(&discard{h: http.Header{}}, r)
		text := out.take()
		var record map[string]any
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			t.Fatalf("%s %s: not one record: %q", method, target, text)
		}
		if d, err := time.ParseDuration(record["latency"].(string)); err != nil || d <= 0 {
			t.Errorf("latency %v", record["latency"])
		}
		return record, text
	}
	got, text := serve("GET", "/v2/a/tags/list?n=5", "", "Authorization: Basic YWxpY2U6c2VjcmV0", "User-Agent: docker/28", "Cookie: session=secret")
	for _, secret := range []string{"YWxpY2U6c2VjcmV0", "secret", "Authorization"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log: %s", secret, text)
		}
	}
	delete(got, "time")
	delete(got, "latency")
	if id, _ := got["requestId"].(string); !tracing.ValidID(id) {
		t.Errorf("the id of the request is %q", id)
	}
	delete(got, "requestId")
	want := map[string]any{
		"level": "INFO", "msg": "HTTP API", "module": "http", "component": "session",
		"clientIP": "192.0.2.1:1234", "method": "GET", "path": "/v2/a/tags/list?n=5",
		"statusCode": 404.0, "bodySize": 92.0, "username": "alice", "userAgent": "docker/28",
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("got, want:\n%s", diff)
	}
	got, _ = serve("PATCH", "/v2/a/blobs/uploads/"+idA+"?_state=TOKEN&x=y", "body")
	if got["path"] != "/v2/a/blobs/uploads/"+idA+"?_state=******&x=y" {
		t.Errorf("path %s", got["path"])
	}
	got, _ = serve("GET", "/"+strings.Repeat("x", 10_000), "")
	if n := len(got["path"].(string)); n > maxLogged+3 {
		t.Errorf("a path of %d bytes", n)
	}
	got, _ = serve("PUT", "/v2/a/manifests/t", "{", "Content-Type: "+registry.TypeManifest)
	if got["statusCode"] != 400.0 || !strings.Contains(got["error"].(string), "storing a manifest") {
		t.Errorf("got %v", got)
	}
}

// TestInternalErrorsAreForTheLog: the client learns that, the log learns why.
func TestInternalErrorsAreForTheLog(t *testing.T) {
	var out logBuffer
	w := newWorld()
	w.log = slog.New(slog.NewJSONHandler(&out, nil))
	guard := &guardedCatalog{Catalog: w.deps.Catalog}
	guard.deny("a", registry.ErrInternal.Because(http.ErrBodyNotAllowed))
	w.deps.Catalog = guard
	got := do(t, "GET", w.serve(t)+"/v2/a/manifests/t", nil).want(t, 500)
	if want := `{"errors":[{"code":"UNKNOWN","message":"internal error"}]}` + "\n"; got.body != want {
		t.Errorf("the client is told %s", got.body)
	}
	if text := out.take(); !strings.Contains(text, `"level":"ERROR"`) || !strings.Contains(text, http.ErrBodyNotAllowed.Error()) {
		t.Errorf("the log is told %s", text)
	}
}
