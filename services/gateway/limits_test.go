package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestLongRequestsAreRefused(t *testing.T) {
	url := newWorld().serve(t)
	for target, want := range map[string]int{
		"/v2/_catalog?x=" + strings.Repeat("x", maxURL-100):                         200,
		"/v2/_catalog?x=" + strings.Repeat("x", maxURL):                             414,
		"/v2/_catalog?last=" + strings.Repeat("x", 255):                             200,
		"/v2/_catalog?last=" + strings.Repeat("x", 256):                             400,
		"/v2/" + strings.Repeat("a/", 9000) + "manifests/x":                         414,
		"/v2/a/manifests/" + strings.Repeat("t", 129):                               400,
		"/v2/a/blobs/uploads/" + idA + "?_state=" + strings.Repeat("A", maxToken+1): 404,
	} {
		if got := do(t, "GET", url+target, nil); got.status != want {
			t.Errorf("%.40s… (%d bytes): got status %d, want %d", target, len(target), got.status, want)
		}
	}
	if got := do(t, "GET", url+"/v2/", nil, "X-Large: "+strings.Repeat("x", maxHeader+8<<10)); got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes: status %d", maxHeader, got.status)
	}
	many := strings.TrimSuffix(strings.Repeat(`"x", `, maxETags+1), ", ")
	do(t, "DELETE", url+"/v2/a/manifests/t", nil, "If-Match: "+many).want(t, 412)
	do(t, "DELETE", url+"/v2/a/manifests/t", nil, "If-None-Match: "+many).want(t, 412)
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*world){
		"no header timeout": func(w *world) { w.cfg.HeaderTimeout = 0 },
		"no keep-alive":     func(w *world) { w.cfg.KeepAlive = 0 },
		"negative cache":    func(w *world) { w.cfg.ManifestCache = -1 },
		"no blobs":          func(w *world) { w.deps.Blobs = nil },
		"no catalog":        func(w *world) { w.deps.Catalog = nil },
	} {
		w := newWorld()
		change(w)
		if _, err := New(w.cfg, w.deps, w.log); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestOrigins checks who may read answers from a browser.
func TestOrigins(t *testing.T) {
	w := newWorld()
	w.cfg.AllowOrigin = []string{"https://ui.example"}
	url := w.serve(t)
	for origin, want := range map[string]string{"https://ui.example": "https://ui.example", "https://evil.example": ""} {
		got := do(t, "GET", url+"/v2/", nil, "Origin: "+origin).want(t, 200)
		if got.header.Get("Access-Control-Allow-Origin") != want || got.header.Get("Vary") != "Authorization, Origin" {
			t.Errorf("%s: got %v", origin, got.header)
		}
	}
	if got := do(t, "GET", url+"/v2/", nil); got.header.Get("Access-Control-Allow-Origin") != "" || got.header.Get("Vary") != "Authorization, Origin" {
		t.Error("CORS without Origin")
	}
}
