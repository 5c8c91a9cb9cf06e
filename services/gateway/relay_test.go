package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/metrics"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// TestTokenRelay: what a token server elsewhere is asked, and what of its answers comes
// back: tokens, and whether it refuses. Nothing else of it does, and no header of the
// client's but the credentials goes there.
func TestTokenRelay(t *testing.T) {
	var got *http.Request
	status, body := 200, `{"token":"t","expires_in":60}`
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		got = r
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Location", "http://127.0.0.1:1/stolen")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	defer far.Close()
	w := newWorld()
	noRedirects := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	s := identity.New(identity.Options{Catalog: w.deps.Catalog, Relay: &identity.Relay{Realm: far.URL + "/token?x=y", Service: "registry", HTTP: noRedirects}})
	t.Cleanup(func() { _ = s.Close() })
	w.deps.Identity, w.deps.Auth = s, auth.New(auth.Options{Closed: true, Metrics: metrics.New()})
	at := w.serve(t)

	a := do(t, "GET", at+"/zot/auth/token?scope=repository:a:pull&scope=repository:b:push&service=evil&client_id=docker&password=p&x=z",
		nil, append(basic("ann", "pw"), "Cookie: session=zse_1", "X-Forwarded-Host: evil")...).want(t, 200)
	if strings.TrimSpace(a.body) != body || a.header.Get("Set-Cookie") != "" || a.header.Get("Location") != "" {
		t.Errorf("answer: %s %v", a.body, a.header)
	}
	want := url.Values{"scope": {"repository:a:pull", "repository:b:push"}, "service": {"registry"}, "client_id": {"docker"}, "x": {"y"}}
	if got.Form.Encode() != want.Encode() || got.Header.Get("Cookie") != "" || got.Header.Get("X-Forwarded-Host") != "" || got.Header.Get("Authorization") == "" {
		t.Errorf("asked for %v with %v", got.Form, got.Header)
	}

	form := url.Values{"grant_type": {"password"}, "username": {"ann"}, "password": {"pw"}, "service": {"evil"}, "scope": {"repository:a:pull"}}
	const isForm = "Content-Type: application/x-www-form-urlencoded"
	do(t, "POST", at+"/zot/auth/token?scope=repository:c:pull", strings.NewReader(form.Encode()), isForm).want(t, 200)
	form.Set("service", "registry")
	if got.Method != "POST" || got.PostForm.Encode() != form.Encode() {
		t.Errorf("asked for %v", got.PostForm)
	}
	do(t, "POST", at+"/zot/auth/token", strings.NewReader("scope="+strings.Repeat("x", 70<<10)), isForm).want(t, 413)
	do(t, "DELETE", at+"/zot/auth/token", nil).want(t, 405)

	for _, x := range []struct {
		status int
		body   string
		want   int
	}{
		{401, "{}", 401}, {403, "{}", 403}, {400, "{}", 400}, {429, "{}", 429}, {500, "{}", 503}, {302, "{}", 503}, {404, "{}", 503},
		{200, "", 503}, {200, "[]", 503}, {200, "{}", 503}, {200, `{"token":""}`, 503}, {200, `{"access_token":"t"}`, 200}, {200, `{"token":"` + strings.Repeat("x", 300<<10) + `"}`, 503},
	} {
		status, body = x.status, x.body
		a := do(t, "GET", at+"/zot/auth/token", nil, basic("ann", "pw")...)
		if a.status != x.want || x.want != 200 && strings.Contains(a.body, "stolen") {
			t.Errorf("%d %.20s is answered %d %s, want %d", x.status, x.body, a.status, a.body, x.want)
		}
	}
	far.Close()
	if a := do(t, "GET", at+"/zot/auth/token?account=canary", nil).want(t, 503); strings.Contains(a.body, "canary") || strings.Contains(a.body, far.URL) {
		t.Errorf("without the server: %s", a.body)
	}
	// There is nothing else here: no keys, no logins.
	for _, path := range []string{"apikey", "login?provider=x", "logout", "device", "callback/x"} {
		if a := do(t, "POST", at+"/zot/auth/"+path, nil); a.status != 404 && a.status != 401 {
			t.Errorf("/zot/auth/%s: %d %s", path, a.status, a.body)
		}
	}
}

// TestRelayedGuessesAreBounded: whoever has no credentials can't fill the audit log by
// requests that are passed on; what is left out is counted, users whom the token server
// knows are all there, and the next minute begins anew.
func TestRelayedGuessesAreBounded(t *testing.T) {
	var s strangers
	s.init(strangersEach, strangersAll)
	at := time.Date(2026, 11, 30, 12, 0, 1, 0, time.UTC)
	recorded := 0
	for i := range 10_000 {
		client := fmt.Sprintf("192.0.2.%d", i%20)
		if i%2 == 0 {
			client = "198.51.100.7"
		}
		if ok, left := s.admit(client, at); ok {
			recorded++
		} else if left != 0 {
			t.Fatalf("%d are left out before anything was", left)
		}
	}
	if recorded != strangersAll || s.each["198.51.100.7"] != strangersEach {
		t.Errorf("recorded %d, %d of one client", recorded, s.each["198.51.100.7"])
	}
	if ok, left := s.admit("192.0.2.1", at.Add(time.Minute)); !ok || left != int64(10_000-strangersAll) {
		t.Errorf("a minute later: recorded %t, %d were left out", ok, left)
	}
	if ok, left := s.admit("192.0.2.1", at.Add(time.Minute)); !ok || left != 0 {
		t.Errorf("then: recorded %t, %d were left out", ok, left)
	}

	w := newWorld()
	g := w.gateway(t)
	events := func(n int, user string, failed error) {
		x := &exchange{r: httptest.NewRequest(http.MethodGet, "/zot/auth/token", nil)}
		x.events = []identity.Event{{Kind: "token.relay", User: user, Err: failed}}
		for range n {
			g.auditIdentity(x, at)
		}
	}
	events(2*strangersEach, "ann", registry.ErrUnauthorized)
	events(2*strangersEach, "", nil)
	events(2*strangersEach, "bob", nil)
	g.auditor.mu.Lock()
	defer g.auditor.mu.Unlock()
	count := map[string]int{}
	for _, e := range g.auditor.waiting {
		count[e.Actor+" "+e.Result]++
	}
	want := map[string]int{"ann UNAUTHORIZED": strangersEach, "bob ok": 2 * strangersEach}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("recorded: -want +got\n%s", diff)
	}
}
