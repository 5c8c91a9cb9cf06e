package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// github is as much of a GitHub Enterprise server as a login needs: its OAuth (with PKCE)
// and the REST API below /api/v3. It refuses what GitHub would refuse.
type github struct {
	t  *testing.T
	at string

	mu     sync.Mutex // guards all below
	codes  map[string]url.Values
	user   map[string]any
	emails []map[string]any
	teams  int // how many, over pages of 100
	orgs   int // status of the answer to /user/orgs
}

func newGitHub(t *testing.T) *github {
	t.Helper()
	g := &github{
		t: t, codes: map[string]url.Values{}, user: map[string]any{"id": 7, "login": "ann"}, orgs: 200, teams: 130,
		emails: []map[string]any{{"email": "other@corp.test", "primary": false, "verified": true}, {"email": "ann@corp.test", "primary": true, "verified": true}},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login/oauth/authorize", g.authorize)
	mux.HandleFunc("POST /login/oauth/access_token", g.token)
	mux.HandleFunc("GET /api/v3/", g.api)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	g.at = srv.URL
	return g
}

// authorize lets the user in at once and sends the browser back with a code.
func (g *github) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != "berth" || q.Get("response_type") != "code" || q.Get("state") == "" || q.Get("code_challenge_method") != "S256" || !strings.Contains(q.Get("scope"), "user:email") {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	g.mu.Lock()
	code := fmt.Sprint("code", len(g.codes))
	g.codes[code] = q
	g.mu.Unlock()
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+url.Values{"code": {code}, "state": {q.Get("state")}}.Encode(), http.StatusFound)
}

// token takes each code once, from who has its verifier and the client's secret.
func (g *github) token(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	if id == "" {
		id, secret = r.FormValue("client_id"), r.FormValue("client_secret")
	}
	g.mu.Lock()
	q, ok := g.codes[r.FormValue("code")]
	delete(g.codes, r.FormValue("code"))
	g.mu.Unlock()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	w.Header().Set("Content-Type", "application/json")
	if !ok || id != "berth" || secret != "hush" || base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge") || r.FormValue("redirect_uri") != q.Get("redirect_uri") {
		fmt.Fprint(w, `{"error":"bad_verification_code"}`) // with 200, as GitHub does
		return
	}
	fmt.Fprint(w, `{"access_token":"gho_token","token_type":"bearer","scope":"read:user,user:email,read:org"}`)
}

func (g *github) api(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer gho_token" {
		http.Error(w, "{}", http.StatusUnauthorized)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var answer any
	switch strings.TrimPrefix(r.URL.Path, "/api/v3") {
	case "/user":
		answer = g.user
	case "/user/emails":
		answer = g.emails
	case "/user/orgs":
		if g.orgs != 200 {
			http.Error(w, "{}", g.orgs)
			return
		}
		answer = []map[string]any{{"login": "corp"}}
	case "/user/teams":
		page, all := r.URL.Query().Get("page"), []map[string]any{}
		for i := range g.teams {
			if fmt.Sprint(i/100+1) == page {
				all = append(all, map[string]any{"slug": fmt.Sprint("team", i), "organization": map[string]any{"login": "corp"}})
			}
		}
		answer = all
	default:
		http.NotFound(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		g.t.Error(err)
	}
}

// withGitHub returns a gateway whose users log in there, and its URL.
func withGitHub(t *testing.T, g *github) (*world, string) {
	t.Helper()
	w := newWorld()
	w.closed = true
	srv := httptest.NewUnstartedServer(nil)
	at := "http://" + srv.Listener.Addr().String()
	w.withIdentity(t, identity.Options{External: at, Providers: []identity.Provider{{
		Name: "github", GitHub: true, ClientID: "berth", ClientSecret: "hush", Scopes: []string{"read:user", "user:email", "read:org"},
		AuthURL: g.at + "/login/oauth/authorize", TokenURL: g.at + "/login/oauth/access_token", HTTP: &http.Client{Transport: transport},
	}}})
	srv.Config = w.gateway(t).Server()
	srv.Start()
	t.Cleanup(srv.Close)
	return w, at
}

// logIn goes through a login, and returns the last answer's status.
func logIn(t *testing.T, b *http.Client, at string) int {
	t.Helper()
	res, err := b.Get(at + "/zot/auth/login?provider=github")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// TestGitHubLogin: a user logs in at GitHub and is known by the primary verified address,
// with organizations and teams of all pages as groups, and has a session.
func TestGitHubLogin(t *testing.T) {
	g := newGitHub(t)
	w, at := withGitHub(t, g)
	b := browser(t)
	if status := logIn(t, b, at); status != http.StatusCreated {
		t.Fatalf("the login ends with %d", status)
	}
	u, ok, err := registry.FindUser(t.Context(), w.deps.Catalog, registry.Actor{System: true}, "ann@corp.test")
	if err != nil || !ok || len(u.Groups) != 131 || u.Groups[0] != "corp" || u.Groups[130] != "corp/team129" {
		t.Errorf("the user is %+v, %v", u, err)
	}
	req, _ := http.NewRequest("GET", at+"/zot/auth/apikey", nil)
	req.Header.Set("X-Zot-Api-Client", "zot-ui")
	res, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("with the session: %d", res.StatusCode)
	}
}

// TestGitHubLoginsThatFail: whoever has no verified primary address is nobody; an account
// with another's name is not him; and groups that may not be read are none.
func TestGitHubLoginsThatFail(t *testing.T) {
	g := newGitHub(t)
	w, at := withGitHub(t, g)
	change := func(f func()) { g.mu.Lock(); f(); g.mu.Unlock() }
	verified := g.emails
	change(func() { g.emails = []map[string]any{{"email": "boss@corp.test", "primary": true, "verified": false}} })
	if status := logIn(t, browser(t), at); status != http.StatusUnauthorized {
		t.Errorf("an address that is not verified: %d", status)
	}
	change(func() { g.emails, g.user = verified, map[string]any{"login": "ann"} })
	if status := logIn(t, browser(t), at); status != http.StatusUnauthorized {
		t.Errorf("an account without a number: %d", status)
	}
	change(func() { g.user, g.orgs, g.teams = map[string]any{"id": 7, "login": "ann"}, http.StatusForbidden, 0 })
	if status := logIn(t, browser(t), at); status != http.StatusCreated {
		t.Errorf("without the right to read organizations: %d", status)
	}
	if u, _, err := registry.FindUser(t.Context(), w.deps.Catalog, registry.Actor{System: true}, "ann@corp.test"); err != nil || len(u.Groups) != 0 {
		t.Errorf("groups: %+v, %v", u, err)
	}
	change(func() { g.user = map[string]any{"id": 8, "login": "mallory"} })
	if status := logIn(t, browser(t), at); status != http.StatusForbidden {
		t.Errorf("another account with the same address: %d", status)
	}
	change(func() { g.orgs = http.StatusInternalServerError; g.user = map[string]any{"id": 7, "login": "ann"} })
	if status := logIn(t, browser(t), at); status != http.StatusUnauthorized {
		t.Errorf("a GitHub that fails: %d", status)
	}
	// A code of nobody's login.
	res, err := browser(t).Get(at + "/zot/auth/callback/github?code=code0&state=x")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusUnauthorized {
		t.Errorf("a callback without a login: %d", res.StatusCode)
	}
}
