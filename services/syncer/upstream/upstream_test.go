package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/berth-registry/berth/registry"
)

// transport answers requests from a function, whatever their host.
type transport func(*http.Request) (int, http.Header, string)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) {
	status, header, body := f(r)
	w := httptest.NewRecorder()
	for k, v := range header {
		w.Header()[k] = v
	}
	w.WriteHeader(status)
	w.WriteString(body)
	resp := w.Result()
	resp.ContentLength = int64(len(body))
	return resp, nil
}

func host(t *testing.T, url string, creds *Credentials, f transport) *Host {
	t.Helper()
	o := Options{URL: url, Transport: f, UserAgent: "berth/test"}
	if creds != nil {
		o.Credentials = func(context.Context) (*Credentials, error) { return creds, nil }
	}
	h, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestS060Realm: credentials go to the registry, to its own domain and nowhere else,
// and never in the clear if the registry has https.
func TestS060Realm(t *testing.T) {
	for realm, want := range map[string]bool{
		"https://registry.example.com/token":     true,
		"https://auth.example.com/token":         true,
		"https://evil.example.org/token":         false,
		"https://example.com.evil.org/token":     false,
		"http://registry.example.com/token":      false,
		"https://u:p@registry.example.com/token": false,
		"https://169.254.169.254/token":          false,
		"":                                       false,
	} {
		asked, leaked := 0, 0
		h := host(t, "https://registry.example.com", &Credentials{Username: "user", Password: "secret"}, func(r *http.Request) (int, http.Header, string) {
			if strings.HasPrefix(r.URL.Path, "/token") {
				if _, p, _ := r.BasicAuth(); p == "secret" {
					asked++
				}
				if s := r.URL.Query().Get("scope"); s != "repository:a:pull" {
					t.Errorf("scope %q", s)
				}
				return 200, nil, `{"token":"T","expires_in":300}`
			}
			if a := r.Header.Get("Authorization"); a == "Bearer T" {
				return 200, http.Header{"Docker-Content-Digest": {string(registry.SHA256.FromString("x"))}}, ""
			} else if a != "" {
				leaked++
			}
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="` + realm + `",service="s",scope="repository:b:push"`}}, ""
		})
		for range 3 {
			_, err := h.HeadManifest(t.Context(), "a", registry.Reference{Tag: "v1"})
			if (err == nil) != want {
				t.Errorf("realm %q: %v", realm, err)
			}
		}
		if want && asked != 1 {
			t.Errorf("realm %q: the token server was asked %d times for 3 requests", realm, asked)
		}
		if !want && asked > 0 || leaked > 0 {
			t.Errorf("realm %q: credentials were sent %d times", realm, asked+leaked)
		}
	}
}

// TestS061IdentityToken: what TestS060Realm says of a password holds for an identity
// token, which goes in the body of a request for a token and nowhere else (compare
// CVE-2026-48978).
func TestS061IdentityToken(t *testing.T) {
	for realm, want := range map[string]bool{
		"https://auth.example.com/token":     true,
		"https://evil.example.org/token":     false,
		"https://example.com.evil.org/token": false,
		"http://registry.example.com/token":  false,
	} {
		asked, leaked := 0, 0
		h := host(t, "https://registry.example.com", &Credentials{Username: IdentityToken, Password: "hush"}, func(r *http.Request) (int, http.Header, string) {
			if strings.Contains(r.URL.String()+fmt.Sprint(r.Header), "hush") || strings.Contains(fmt.Sprint(r.Header), "aHVza") {
				leaked++
			}
			if strings.HasPrefix(r.URL.Path, "/token") {
				if r.ParseForm() == nil && r.PostForm.Get("refresh_token") == "hush" {
					asked++
				}
				return 200, nil, `{"access_token":"T","refresh_token":"another","expires_in":300}`
			}
			if r.Header.Get("Authorization") == "Bearer T" {
				return 200, http.Header{"Docker-Content-Digest": {string(registry.SHA256.FromString("x"))}}, ""
			}
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="` + realm + `",service="s"`}}, ""
		})
		_, err := h.HeadManifest(t.Context(), "a", registry.Reference{Tag: "v1"})
		if (err == nil) != want || (asked == 1) != want || leaked > 0 {
			t.Errorf("realm %q: %v; it was asked %d times, and the token was elsewhere %d times", realm, err, asked, leaked)
		}
	}
}

// TestS060Addresses: two addresses are no domain, however alike they are.
func TestS060Addresses(t *testing.T) {
	for base, realm := range map[string]string{
		"https://203.0.113.7":           "https://198.51.113.7/token",
		"https://203.0.113.7:5000":      "https://8.8.113.7:5000/token",
		"https://[2001:db8::1]":         "https://[2001:db8::2]/token",
		"https://registry.internal":     "https://evil.internal.example/token",
		"https://registry.example.com.": "https://evil.org./token",
	} {
		leaked := 0
		h := host(t, base, &Credentials{Username: "user", Password: "secret"}, func(r *http.Request) (int, http.Header, string) {
			if r.Header.Get("Authorization") != "" {
				leaked++
			}
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="` + realm + `",service="s"`}}, ""
		})
		if _, err := h.HeadManifest(t.Context(), "a", registry.Reference{Tag: "v1"}); err == nil || leaked > 0 {
			t.Errorf("%s sends credentials to %s: %v", base, realm, err)
		}
	}
}

// TestS062Redirects: where the registry redirects gets no credentials, and there is no
// way from https to http.
func TestS062Redirects(t *testing.T) {
	for to, want := range map[string]bool{
		"https://cdn.example.net/blob":       true,
		"https://registry.example.com/other": true,
		"http://cdn.example.net/blob":        false,
		"ftp://cdn.example.net/blob":         false,
		"https://u:p@cdn.example.net/blob":   false,
		"https://registry.example.com/v2/a/blobs/" + string(registry.SHA256.FromString("x")): false, // a circle
		"": false,
	} {
		h := host(t, "https://registry.example.com", &Credentials{Username: "user", Password: "secret"}, func(r *http.Request) (int, http.Header, string) {
			auth := r.Header.Get("Authorization")
			if r.URL.Host != "registry.example.com" {
				if auth != "" {
					t.Errorf("%s got credentials", r.URL)
				}
				return 200, nil, "x"
			}
			switch {
			case auth == "":
				return 401, http.Header{"Www-Authenticate": {`Basic realm="r"`}}, ""
			case r.URL.Path == "/other":
				return 200, nil, "x"
			}
			return 307, http.Header{"Location": {to}}, ""
		})
		body, size, err := h.Blob(t.Context(), "a", registry.SHA256.FromString("x"), 0)
		if (err == nil) != want {
			t.Errorf("redirect to %q: %v", to, err)
		}
		if err == nil {
			if size != 1 {
				t.Errorf("size %d", size)
			}
			body.Close()
		}
	}
}

// TestS065Pages: lists are followed on the same host, to their end, and no further.
func TestS065Pages(t *testing.T) {
	n := 0
	for name, c := range map[string]struct {
		link func() string
		want int // items, -1 for an error
	}{
		"one page": {func() string { return "" }, 1},
		"three": {func() string {
			return map[bool]string{true: fmt.Sprintf(`</v2/a/tags/list?n=1000&last=%d>; rel="next"`, n)}[n < 3]
		}, 3},
		"the same":      {func() string { return `</v2/a/tags/list?last=x>; rel="next"` }, -1},
		"another host":  {func() string { return `<https://evil.example/v2/a/tags/list?last=x>; rel="next"` }, -1},
		"another list":  {func() string { return `</v2/b/tags/list?last=x>; rel="next"` }, -1},
		"in the clear":  {func() string { return `<http://registry.example.com/v2/a/tags/list?last=x>; rel="next"` }, -1},
		"without end":   {func() string { return fmt.Sprintf(`</v2/a/tags/list?last=%d>; rel="next"`, n) }, -1},
		"not next page": {func() string { return `</v2/a/tags/list?last=x>; rel="prev"` }, 1},
	} {
		n = 0
		h := host(t, "https://registry.example.com", nil, func(*http.Request) (int, http.Header, string) {
			n++
			return 200, http.Header{"Link": {c.link()}}, `{"name":"a","tags":["t"]}`
		})
		items := 0
		err := h.Tags(t.Context(), "a", func(page []string) error { items += len(page); return nil })
		if c.want < 0 && !errors.Is(err, registry.ErrUnavailable) || c.want >= 0 && (err != nil || items != c.want) {
			t.Errorf("%s: %d items, %v", name, items, err)
		}
		if n > maxPages {
			t.Errorf("%s: %d pages", name, n)
		}
	}
}

// TestReferrersPages: a list of referrers goes on where its Link leads, on the same host, and
// has an end.
func TestReferrersPages(t *testing.T) {
	d := registry.SHA256.FromString("subject")
	list := "/v2/a/referrers/" + string(d)
	for name, c := range map[string]struct {
		link func(page int) string
		want int // referrers, -1 for an error
	}{
		"one page": {func(int) string { return "" }, 1},
		"three": {func(page int) string {
			return map[bool]string{true: fmt.Sprintf(`<%s?last=%d>; rel="next"`, list, page)}[page < 3]
		}, 3},
		"the same":     {func(int) string { return `<` + list + `?last=x>; rel="next"` }, -1},
		"without end":  {func(page int) string { return fmt.Sprintf(`<%s?last=%d>; rel="next"`, list, page) }, -1},
		"another host": {func(int) string { return `<https://evil.example` + list + `?last=x>; rel="next"` }, -1},
	} {
		n := 0
		h := host(t, "https://registry.example.com", nil, func(r *http.Request) (int, http.Header, string) {
			n++
			if r.URL.Path != list {
				t.Errorf("%s: asked for %s", name, r.URL.Path)
			}
			return 200, http.Header{"Link": {c.link(n)}}, fmt.Sprintf(`{"manifests":[{"digest":%q}]}`, registry.SHA256.FromString(strconv.Itoa(n)))
		})
		all, err := h.Referrers(t.Context(), "a", d)
		if c.want < 0 && !errors.Is(err, registry.ErrUnavailable) || c.want >= 0 && (err != nil || len(all) != c.want) {
			t.Errorf("%s: %d referrers, %v", name, len(all), err)
		}
		if n > maxPages {
			t.Errorf("%s: %d pages", name, n)
		}
	}
}

// TestHub: docker.io is a name that people and zot's example have for Docker Hub, whose
// registry has another one.
func TestHub(t *testing.T) {
	for url, want := range map[string]string{
		"https://docker.io":            "https://registry-1.docker.io",
		"https://docker.io/library":    "https://registry-1.docker.io",
		"https://Docker.IO:443/":       "https://registry-1.docker.io",
		"https://registry-1.docker.io": "https://registry-1.docker.io",
		"https://docker.io.example":    "https://docker.io.example",
		"http://docker.io:5000":        "http://docker.io:5000",
	} {
		h := host(t, url, &Credentials{Username: "user", Password: "secret"}, func(r *http.Request) (int, http.Header, string) {
			if got := r.URL.Scheme + "://" + r.URL.Host; got != want {
				t.Errorf("%s: asked %s", url, r.URL)
			}
			return 200, nil, ""
		})
		if err := h.Ping(t.Context()); err != nil || h.URL() != want {
			t.Errorf("%s: %s, %v", url, h.URL(), err)
		}
	}
}

// TestTokensHeld: a token server that wants fewer requests is told of as one, and left alone
// for as long as it says: it is not one that fails.
func TestTokensHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, status := 0, http.StatusTooManyRequests
		h := host(t, "https://registry.example.com", nil, func(r *http.Request) (int, http.Header, string) {
			switch {
			case r.URL.Path == "/token":
				asked++
				return status, http.Header{"Retry-After": {"300"}}, `{"token":"T"}`
			case r.Header.Get("Authorization") != "":
				return 200, nil, ""
			}
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="https://registry.example.com/token"`}}, ""
		})
		for range 10 {
			err := h.Ping(t.Context())
			if !errors.Is(err, registry.ErrTooManyRequests) || registry.AsError(err).RetryAfter != 5*time.Minute {
				t.Fatalf("%v", err)
			}
		}
		if asked != 1 {
			t.Errorf("it was asked %d times", asked)
		}
		status = 200
		time.Sleep(5*time.Minute + time.Second)
		if err := h.Ping(t.Context()); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}

// TestS065Endless: a list that does not end is given up before it fills the memory.
func TestS065Endless(t *testing.T) {
	page := `{"tags":["a"` + strings.Repeat(`,"a"`, 100_000) + `]}`
	asked := 0
	h := host(t, "https://registry.example.com", nil, func(*http.Request) (int, http.Header, string) {
		asked++
		return 200, http.Header{"Link": {`</v2/a/tags/list?last=` + strconv.Itoa(asked) + `>; rel="next"`}}, page
	})
	if err := h.Tags(t.Context(), "a", func([]string) error { return nil }); !errors.Is(err, registry.ErrUnavailable) || asked > maxItems/100_000 {
		t.Errorf("after %d pages: %v", asked, err)
	}
}

// TestBreaker: after five failures a host is left alone, but for a try each 30 s.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		status, header := 500, http.Header{"Retry-After": {"120"}}
		h := host(t, "https://registry.example.com", nil, func(*http.Request) (int, http.Header, string) {
			asked.Add(1)
			return status, header, ""
		})
		try := func() error { return h.Ping(t.Context()) }
		for range 100 {
			if err := try(); !errors.Is(err, registry.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if n := asked.Load(); n != failures {
			t.Errorf("%d requests", n)
		}
		if !h.Down() {
			t.Error("it does not count as down")
		}
		for range 10 {
			time.Sleep(probeEvery)
			try()
			try()
		}
		if n := asked.Load(); n != failures+10 {
			t.Errorf("%d requests after ten times 30 s", n)
		}
		status = 200
		time.Sleep(probeEvery)
		for range 10 {
			if err := try(); err != nil {
				t.Fatal(err)
			}
		}
		// One 503 that asks for no pause is one failure.
		status, header = 503, nil
		if err := try(); !errors.Is(err, registry.ErrUnavailable) {
			t.Error(err)
		}
		status = 200
		if err := try(); err != nil {
			t.Errorf("after one 503: %v", err)
		}
		// One that does is not somebody else's quota.
		status, header = 503, http.Header{"Retry-After": {"10"}}
		for range 2 {
			if err := try(); !errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrTooManyRequests) {
				t.Error(err)
			}
		}
		time.Sleep(11 * time.Second)
		header = http.Header{"Retry-After": {"120"}}
		// A 429 holds requests back for as long as it says.
		status = 429
		if err := try(); !errors.Is(err, registry.ErrTooManyRequests) {
			t.Error(err)
		}
		status = 200
		h.Succeeded() // one that was under way
		time.Sleep(119 * time.Second)
		if err := try(); !errors.Is(err, registry.ErrTooManyRequests) {
			t.Errorf("before its time: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := try(); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

// TestP100Headers: of what a registry says of its content only the hash of the bytes
// is believed.
func TestP100Headers(t *testing.T) {
	m := `{"schemaVersion":2,"mediaType":"` + registry.TypeIndex + `","manifests":[]}`
	h := host(t, "https://registry.example.com", nil, func(*http.Request) (int, http.Header, string) {
		return 200, http.Header{"Content-Type": {registry.TypeIndex + "; charset=utf-8"}, "Docker-Content-Digest": {string(registry.SHA256.FromString("lie"))},
			"Ratelimit-Remaining": {"57;w=21600"}}, m
	})
	got, err := h.Manifest(t.Context(), "a", registry.Reference{Tag: "v1"})
	if err != nil || got.Digest != registry.SHA256.FromString(m) || got.MediaType != registry.TypeIndex {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := h.Manifest(t.Context(), "a", registry.Reference{Digest: registry.SHA256.FromString("lie")}); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a digest that the bytes do not have: %v", err)
	}
	if n := h.Budget(); n != 57 {
		t.Errorf("budget %d", n)
	}
}

// FuzzChallenge reads what registries ask for.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"`)
	f.Add(`Basic realm="x\"y`)
	f.Add(`bearer a=b, c="d" ,`)
	f.Fuzz(func(t *testing.T, s string) {
		c := parseChallenge([]string{s})
		if len(c.params) > 16 {
			t.Errorf("%d parameters", len(c.params))
		}
		for k := range c.params {
			if strings.ContainsAny(k, "=") {
				t.Errorf("name %q", k)
			}
		}
		if _, err := json.Marshal(c.params); err != nil {
			t.Error(err)
		}
	})
}

// TestIdentityToken: a token in the place of a password is sent as OAuth2 has it.
func TestIdentityToken(t *testing.T) {
	var asked string
	h := host(t, "https://registry.example.com", &Credentials{Username: IdentityToken, Password: "identity"}, func(r *http.Request) (int, http.Header, string) {
		switch {
		case r.URL.Path == "/token":
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			asked = r.Method + " " + r.PostForm.Encode() + r.Header.Get("Authorization")
			return 200, nil, `{"access_token":"tok"}`
		case r.Header.Get("Authorization") == "Bearer tok":
			return 200, http.Header{"Docker-Content-Digest": {string(registry.SHA256.FromString("x"))}}, ""
		}
		return 401, http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example.com/token",service="s"`}}, ""
	})
	if d, err := h.HeadManifest(t.Context(), "a/b", registry.Reference{Tag: "v1"}); err != nil || d == "" {
		t.Errorf("%s, %v", d, err)
	}
	if want := "POST client_id=berth&grant_type=refresh_token&refresh_token=identity&scope=repository%3Aa%2Fb%3Apull&service=s"; asked != want {
		t.Errorf("asked %s, want %s", asked, want)
	}
}

// TestTokenScopes: who pushes asks for that, and tokens to read are not used for it.
func TestTokenScopes(t *testing.T) {
	var scopes []string
	h := host(t, "https://registry.example.com", nil, func(r *http.Request) (int, http.Header, string) {
		if r.URL.Path == "/token" {
			scopes = append(scopes, strings.Join(r.URL.Query()["scope"], " "))
			return 200, nil, fmt.Sprintf(`{"token":"%d","expires_in":300}`, len(scopes))
		}
		if r.Header.Get("Authorization") == "" {
			return 401, http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example.com/token",service="s"`}}, ""
		}
		return 202, http.Header{"Location": {"/v2/a/blobs/uploads/1"}}, ""
	})
	d := registry.SHA256.FromString("x")
	for range 2 {
		if _, err := h.HeadBlob(t.Context(), "a", d); err != nil {
			t.Fatal(err)
		}
		if _, err := h.StartUpload(t.Context(), "a", d, "b"); err != nil {
			t.Fatal(err)
		}
		if _, err := h.StartUpload(t.Context(), "a", d, ""); err != nil {
			t.Fatal(err)
		}
	}
	if want := "repository:a:pull|repository:a:pull,push repository:b:pull|repository:a:pull,push"; strings.Join(scopes, "|") != want {
		t.Errorf("asked for %q, want %q", scopes, want)
	}
}
