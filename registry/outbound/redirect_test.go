package outbound

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestS066RedirectInside has a public host redirect to every kind of address and
// to names that are there (CVE-2026-2376, CVE-2026-58418).
func TestS066RedirectInside(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range inside {
			for _, target := range []string{"http://" + bracket(to) + "/latest/meta-data", "http://inner.example/"} {
				w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, target, status) },
					map[string]string{"outer.test": "1.1.1.1", "inner.example": to})
				_, err := get(t, w.client(Options{Named: []string{"http://outer.test"}}), "http://outer.test/v2/")
				if !errors.Is(err, ErrRefused) {
					t.Errorf("%d to %s at %s: got %v", status, target, to, err)
				} else if strings.Contains(err.Error(), to) && !strings.Contains(target, to) {
					t.Errorf("the error names what is inside: %v", err)
				}
				w.onlyPublic()
				w.server.Close()
			}
		}
	}
}

// TestS060NoSecretElsewhere follows redirects to other origins (CVE-2026-33540,
// CVE-2026-48978, CVE-2020-15157): by name, port, subdomain, and back again.
func TestS060NoSecretElsewhere(t *testing.T) {
	const secret = "canary-7c1f"
	names := map[string]string{"one.test": "1.1.1.1", "evil.test": "2.2.2.2", "sub.one.test": "3.3.3.3"}
	for name, test := range map[string]struct {
		path []string // URLs in turn
		last bool     // whether the last one gets the secret
	}{
		"same origin":    {[]string{"http://one.test/a", "http://one.test/b", "http://ONE.test:80/c"}, true},
		"other host":     {[]string{"http://one.test/a", "http://evil.test/b"}, false},
		"other port":     {[]string{"http://one.test/a", "http://one.test:8080/b"}, false},
		"subdomain":      {[]string{"http://one.test/a", "http://sub.one.test/b"}, false},
		"parent":         {[]string{"http://sub.one.test/a", "http://one.test/b"}, false},
		"back again":     {[]string{"http://one.test/a", "http://evil.test/b", "http://one.test/c"}, false},
		"twice the same": {[]string{"http://one.test/a", "http://evil.test/b", "http://evil.test/c"}, false},
	} {
		step := 0
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) {
			if step++; step < len(test.path) {
				http.Redirect(rw, r, test.path[step], http.StatusTemporaryRedirect)
			}
		}, names)
		_, err := get(t, w.client(Options{}), test.path[0]+"?sig="+secret, "Authorization", "Bearer "+secret, "Cookie", "s="+secret,
			"X-Registry-Auth", secret, "Private-Token", secret, "Proxy-Authorization", secret, "Accept", "application/json", "Referer", "http://x/"+secret)
		if err != nil || len(w.seen) != len(test.path) {
			t.Fatalf("%s: %d requests, %v", name, len(w.seen), err)
		}
		for i, r := range w.seen[1:] {
			text := fmt.Sprint(r.Header)
			last := i == len(test.path)-2
			if has := strings.Contains(text, secret); has && (!last || !test.last) && name != "same origin" || !has && test.last {
				t.Errorf("%s: request %d has %s", name, i+2, text)
			}
			if r.Header.Get("Referer") != "" {
				t.Errorf("%s: Referer %s", name, r.Header.Get("Referer"))
			}
			if r.Header.Get("Accept") == "" {
				t.Errorf("%s: Accept is lost", name)
			}
		}
		w.server.Close()
	}
}

// TestS060BodyStays: a form with a client secret is not sent to where a 307 leads.
func TestS060BodyStays(t *testing.T) {
	for _, status := range []int{307, 308} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "http://evil.test/", status) },
			map[string]string{"one.test": "1.1.1.1", "evil.test": "2.2.2.2"})
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://one.test/token", strings.NewReader("client_secret=x"))
		resp, err := w.client(Options{}).Do(r)
		if !errors.Is(err, ErrRedirects) || len(w.seen) != 1 {
			t.Errorf("%d: got %v, %v after %d requests", status, resp, err, len(w.seen))
		}
		if err == nil {
			resp.Body.Close()
		}
		w.server.Close()
	}
}

func TestRedirectsAreBounded(t *testing.T) {
	for _, test := range []struct{ limit, want int }{{0, 6}, {2, 3}, {-1, 1}} {
		w := newInternet(t, func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/again", http.StatusFound) }, map[string]string{"one.test": "1.1.1.1"})
		resp, err := get(t, w.client(Options{Redirects: test.limit}), "http://one.test/")
		if len(w.seen) != test.want || (test.limit < 0) != (err == nil) || err == nil && resp.StatusCode != http.StatusFound {
			t.Errorf("limit %d: %d requests, %v", test.limit, len(w.seen), err)
		}
		w.server.Close()
	}
}

// TestS071NoHTTPAfterHTTPS: https that fails, or redirects to http, is not tried
// without (CVE-2019-10214, CVE-2014-5277).
func TestS071NoHTTPAfterHTTPS(t *testing.T) {
	plain := newInternet(t, func(http.ResponseWriter, *http.Request) {}, map[string]string{"one.test": "1.1.1.1"})
	if _, err := get(t, plain.client(Options{}), "https://one.test/", "Authorization", "x"); err == nil || len(plain.seen) > 0 {
		t.Errorf("a peer without TLS: got %v and %d requests", err, len(plain.seen))
	}

	secure := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		http.Redirect(rw, r, "http://one.test/", http.StatusFound)
	}))
	defer secure.Close()
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	for _, skip := range []bool{false, true} {
		c, err := New(Options{PlainHTTP: true, TLS: TLS{SkipVerify: skip}, Lookup: plain.lookup})
		if err != nil {
			t.Fatal(err)
		}
		c.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			if strings.HasSuffix(address, ":443") {
				address = secure.Listener.Addr().String()
			} else {
				address = plain.server.Listener.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, address)
		}
		if _, err := get(t, c, "https://one.test/"); err == nil || skip != errors.Is(err, ErrRedirects) {
			t.Errorf("unverified allowed: %v: got %v", skip, err)
		}
	}
	if len(plain.seen) > 0 {
		t.Error("the redirect to http was followed")
	}

	c, err := New(Options{Lookup: plain.lookup})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, "http://one.test/"); !errors.Is(err, ErrRefused) {
		t.Errorf("http without PlainHTTP: got %v", err)
	}
}
