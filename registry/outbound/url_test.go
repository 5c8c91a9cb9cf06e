package outbound

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// TestS063S065SameOrigin resolves what a peer says comes next (CVE-2026-50151,
// GHSA-h7vf-4x9w-h99v).
func TestS063S065SameOrigin(t *testing.T) {
	base, _ := url.Parse("https://one.test/v2/a/b/tags/list?n=1")
	for ref, want := range map[string]string{
		"/v2/a/b/tags/list?last=x":     "https://one.test/v2/a/b/tags/list?last=x",
		"list?last=y#z":                "https://one.test/v2/a/b/tags/list?last=y",
		"https://one.test:443/x":       "https://one.test:443/x",
		"https://ONE.test./x":          "https://ONE.test./x",
		"http://one.test/x":            "",
		"https://one.test:8443/x":      "",
		"https://evil.test/x":          "",
		"//evil.test/x":                "",
		"https://user@one.test/x":      "",
		"https://one.test@evil.test/x": "",
		"file:///etc/passwd":           "",
		"https://one.test.evil.test/x": "",
		"\x00":                         "",
	} {
		got, err := SameOrigin(base, ref)
		if (err == nil) != (want != "") || err == nil && got.String() != want {
			t.Errorf("%s: got %v, %v", ref, got, err)
		}
	}
}

// TestS072Origin: what a credential is kept under names scheme, host and port.
func TestS072Origin(t *testing.T) {
	all := map[string]bool{}
	for _, s := range []string{"https://one.test", "https://one.test:8443", "http://one.test", "https://sub.one.test", "https://one.test.evil", "http://[::1]:80", "http://127.0.0.1"} {
		u, _ := url.Parse(s)
		all[Origin(u)] = true
	}
	if len(all) != 7 {
		t.Errorf("got %v", all)
	}
	a, _ := url.Parse("https://ONE.test.:443/a")
	b, _ := url.Parse("https://one.test/b?c")
	if Origin(a) != Origin(b) {
		t.Errorf("%s is not %s", Origin(a), Origin(b))
	}
}

func TestSameSite(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"auth.docker.io", "registry-1.docker.io:443", true},
		{"docker.io", "auth.docker.io", true},
		{"a.github.io", "b.github.io", false},
		{"a.co.uk", "b.co.uk", false},
		{"evildocker.io", "docker.io", false},
		{"10.0.0.1", "10.0.0.1:5000", true},
		{"10.0.0.1", "11.0.0.1", false},
		{"registry", "registry:5000", true},
		{"registry", "auth", false},
		{"", "", false},
	} {
		if got := SameSite(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: got %v", test.a, test.b, got)
		}
	}
}

func TestScrub(t *testing.T) {
	w := newInternet(t, func(http.ResponseWriter, *http.Request) {}, nil)
	_, err := get(t, w.client(Options{}), "http://none.test/blob?X-Amz-Signature=secret")
	if err == nil || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "none.test/blob") {
		t.Errorf("got %v", err)
	}
	if Scrub(nil) != nil {
		t.Error("nil became an error")
	}
}

func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://one.test/a", "https://[::1]:80/", "http://127.1", "http://a@b", "//x", "http://①.com", "http://.", "http://.:5000/"} {
		f.Add(s)
	}
	base, _ := url.Parse("https://one.test/v2/")
	f.Fuzz(func(t *testing.T, s string) {
		if u, err := SameOrigin(base, s); err == nil && (u.Scheme != "https" || canonical(u.Hostname()) != "one.test" || u.User != nil) {
			t.Errorf("%q became %s", s, u)
		}
		if u, err := parse(s); err == nil {
			host, port := hostPort(u)
			if host == "" || port == "" && u.Port() != "" || canonical(host) != host || disguised(host) {
				t.Errorf("%q: host %q, port %q", s, host, port)
			}
		}
		_, _ = ParseRules([]string{s}, false)
	})
}
