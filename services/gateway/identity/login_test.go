package identity

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
)

func testService(t testing.TB) *Service {
	t.Helper()
	s := New(Options{
		Catalog: memory.NewCatalog(memory.CatalogOptions{}), External: "https://here.test", Audience: "here.test", CallbackOrigins: []string{"https://ui.test"},
		Providers: []Provider{{Name: "corp", Issuer: "https://sso.test", ClientID: "x", HTTP: http.DefaultClient}},
	})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// FuzzNext: wherever a login may lead is here or of an allowed origin, as a browser
// reads it, which drops tabs and line breaks and takes a backslash for a slash.
func FuzzNext(f *testing.F) {
	for _, next := range []string{"/", "/home?a=b#c", "//evil", `/\evil`, "/\t/evil", "https://ui.test/x", "https://ui.test@evil/", "/%2f/evil", "/@evil"} {
		f.Add(next)
	}
	s := testService(f)
	base, _ := url.Parse("https://here.test/zot/auth/callback/corp")
	browser := strings.NewReplacer("\t", "", "\n", "", "\r", "", `\`, "/")
	f.Fuzz(func(t *testing.T, next string) {
		if !s.mayFollow(next) {
			return
		}
		u, err := base.Parse(browser.Replace(strings.TrimSpace(next)))
		if err != nil {
			t.Fatalf("%q may be followed: %v", next, err)
		}
		if at := u.Scheme + "://" + u.Host; at != "https://here.test" && at != "https://ui.test" {
			t.Errorf("%q leads to %s", next, at)
		}
	})
}

// FuzzCallback: no callback that is made up lets anybody in.
func FuzzCallback(f *testing.F) {
	s := testService(f)
	r := httptest.NewRequest("GET", "/", nil)
	good, err := s.sealFlow(r, flow{Provider: "corp", State: "state", Nonce: "n", Verifier: "v", Until: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("code=x&state=state", good)
	f.Add("code=x&state=", "")
	f.Add("error=access_denied&state=state", good[:len(good)-1])
	f.Fuzz(func(t *testing.T, query, cookie string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: "/zot/auth/callback/corp", RawQuery: query}, Header: http.Header{"Cookie": {stateCookie + "=" + cookie}}}
		w := httptest.NewRecorder()
		if err := s.callback(w, r, "corp"); err == nil {
			t.Errorf("%q with cookie %q: let in", query, cookie)
		}
		for _, c := range w.Result().Cookies() {
			if c.Name == sessionCookie {
				t.Errorf("%q with cookie %q: a session", query, cookie)
			}
		}
	})
}

// What a login's cookie holds is for the gateways of the installation only.
func TestLoginCookie(t *testing.T) {
	s := testService(t)
	r := httptest.NewRequest("GET", "/", nil)
	want := flow{Provider: "corp", State: "s", Nonce: "n", Verifier: "v", Next: "/x", Until: s.trust.now().Unix() + 60}
	text, err := s.sealFlow(r, want)
	if err != nil {
		t.Fatal(err)
	}
	open := func(s *Service, value string) (flow, error) {
		r := httptest.NewRequest("GET", "/", nil)
		r.AddCookie(&http.Cookie{Name: stateCookie, Value: value})
		return s.openFlow(r)
	}
	if got, err := open(s, text); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	changed := []byte(text)
	changed[len(changed)/2] ^= 1
	for what, value := range map[string]string{"changed": string(changed), "cut": text[:20], "empty": "", "long": strings.Repeat("A", 10_000)} {
		if got, err := open(s, value); err == nil {
			t.Errorf("%s: %+v", what, got)
		}
	}
	if got, err := open(testService(t), text); err == nil {
		t.Errorf("opened by another installation: %+v", got)
	}
	old := want
	old.Until = s.trust.now().Unix() - 1
	if text, err = s.sealFlow(r, old); err != nil {
		t.Fatal(err)
	}
	if got, err := open(s, text); err == nil {
		t.Errorf("too late: %+v", got)
	}
}

// Codes can be typed in any case and with any gaps.
func TestUserCodes(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		c := userCode()
		if seen[c] || cleanCode(c) != c || cleanCode(strings.ToLower(strings.ReplaceAll(c, "-", " "))) != c {
			t.Fatalf("code %q", c)
		}
		seen[c] = true
	}
	for _, bad := range []string{"", "ABC", "BCDF-GHJK-L", "AEIO-UAEI"} {
		if c := cleanCode(bad); c != "" {
			t.Errorf("%q is the code %q", bad, c)
		}
	}
	if err := (registry.Credential{Kind: registry.DeviceCode, ID: userCode()}).Check(); err != nil {
		t.Error(err)
	}
}
