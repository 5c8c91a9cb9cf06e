package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
)

// TestS063Location: where an upload is to go on gets credentials only if it is the
// registry itself, and nothing at all in the clear (CVE-2026-50151).
func TestS063Location(t *testing.T) {
	for location, c := range map[string]struct{ used, credentials bool }{
		"/v2/a/blobs/uploads/1":                          {true, true},
		"https://registry.example.com/v2/upload?state=x": {true, true},
		"https://store.example.org/bucket/1?sig=x":       {true, false},
		"https://registry.example.com:8443/upload":       {true, false},
		"http://registry.example.com/upload":             {false, false},
		"https://u:p@registry.example.com/upload":        {false, false},
		"ftp://registry.example.com/upload":              {false, false},
		"":                                               {false, false},
	} {
		uploads, leaked := 0, 0
		h := host(t, "https://registry.example.com", &Credentials{Username: "user", Password: "secret"}, func(r *http.Request) (int, http.Header, string) {
			auth := r.Header.Get("Authorization")
			if auth != "" && (r.URL.Host != "registry.example.com" || r.URL.Scheme != "https") {
				leaked++
			}
			switch r.Method {
			case http.MethodPost:
				if auth == "" {
					return 401, http.Header{"Www-Authenticate": {`Basic realm="r"`}}, ""
				}
				return 202, http.Header{"Location": {location}}, ""
			default:
				if (auth != "") == c.credentials {
					uploads++
				}
				return 202, http.Header{"Location": {location}}, ""
			}
		})
		d := registry.SHA256.FromString("bytes")
		u, err := h.StartUpload(t.Context(), "a", d, "")
		if (err == nil) != c.used {
			t.Errorf("location %q: %v", location, err)
		}
		if err == nil {
			u, err = h.Append(t.Context(), "a", u, 5, func() io.ReadCloser { return io.NopCloser(strings.NewReader("bytes")) })
			if err == nil {
				err = h.Finish(t.Context(), "a", u, d)
			}
			if err != nil || uploads != 2 {
				t.Errorf("location %q: %v, %d of 2 requests as they should be", location, err, uploads)
			}
		}
		if leaked > 0 {
			t.Errorf("location %q: %d others got credentials", location, leaked)
		}
	}
}

// TestDeleteManifest: what is not there is removed; a registry that removes nothing
// says so for good; the right to remove is asked for.
func TestDeleteManifest(t *testing.T) {
	status, scope, match := 202, "", ""
	h := host(t, "https://registry.example.com", nil, func(r *http.Request) (int, http.Header, string) {
		if r.URL.Path == "/token" {
			scope = r.URL.Query().Get("scope")
			return 200, nil, `{"token":"t","expires_in":300}`
		}
		if r.Header.Get("Authorization") == "" {
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example.com/token",service="s"`}}, ""
		}
		match = r.Header.Get("If-Match")
		return status, nil, `{"errors":[{"code":"UNSUPPORTED"}]}`
	})
	d := registry.SHA256.FromString("x")
	remove := func() error {
		return h.DeleteManifest(t.Context(), "a", registry.Reference{Tag: "v1"}, registry.Condition{Match: d}, "me")
	}
	if err := remove(); err != nil || scope != "repository:a:pull,push,delete" || match != `"`+string(d)+`"` {
		t.Errorf("%v, scope %q, If-Match %q", err, scope, match)
	}
	status = 404
	if err := remove(); err != nil {
		t.Errorf("what is not there: %v", err)
	}
	status = 405
	var no *Refusal
	if err := remove(); !errors.As(err, &no) || no.Status != 405 || no.Code != "UNSUPPORTED" {
		t.Errorf("a registry that removes nothing: %v", err)
	}
	status = 503
	if err := remove(); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a registry that is down: %v", err)
	}
}
