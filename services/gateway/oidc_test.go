package gateway

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// people are the users of a provider under test.
type people struct {
	mu     sync.Mutex // guards all
	users  map[string]*storage.User
	groups map[string][]string
}

func (p *people) GetUserByID(id string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.users[id]; u != nil {
		c := *u
		return &c
	}
	return nil
}

func (p *people) GetUserByUsername(name string) *storage.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.users {
		if u.Username == name {
			c := *u
			return &c
		}
	}
	return nil
}

func (p *people) ExampleClientID() string { return "service" }

// groupsStorage adds the groups claim.
type groupsStorage struct {
	*storage.Storage
	people *people
}

func (s groupsStorage) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, r op.IDTokenRequest, scopes []string) error {
	err := s.Storage.SetUserinfoFromRequest(ctx, info, r, scopes)
	s.addGroups(info, r.GetSubject())
	return err
}

func (s groupsStorage) SetUserinfoFromToken(ctx context.Context, info *oidc.UserInfo, id, subject, origin string) error {
	err := s.Storage.SetUserinfoFromToken(ctx, info, id, subject, origin)
	s.addGroups(info, subject)
	return err
}

func (s groupsStorage) addGroups(info *oidc.UserInfo, subject string) {
	s.people.mu.Lock()
	defer s.people.mu.Unlock()
	info.AppendClaims("groups", slices.Clone(s.people.groups[subject]))
}

// openid is an OpenID provider with the given client and its users.
func openid(t *testing.T, clientID, redirect string, p *people) (issuer string) {
	t.Helper()
	srv := httptest.NewUnstartedServer(nil)
	issuer = "http://" + srv.Listener.Addr().String()
	storage.RegisterClients(storage.WebClient(clientID, "secret", redirect))
	old := slog.Default()
	srv.Config.Handler = exampleop.SetupServer(issuer, groupsStorage{storage.NewStorage(p), p}, slog.New(slog.DiscardHandler), false, op.WithAllowInsecure())
	slog.SetDefault(old)
	srv.Start()
	t.Cleanup(srv.Close)
	return issuer
}

// portal is a gateway whose users log in at a provider.
type portal struct {
	w      *world
	at     string
	issuer string
	people *people
}

func newPortal(t *testing.T, name string) *portal {
	t.Helper()
	p := &portal{w: newWorld(), people: &people{
		users: map[string]*storage.User{
			"1": {ID: "1", Username: "ann", Password: "pw", Email: "ann@corp.test", EmailVerified: true},
			"2": {ID: "2", Username: "una", Password: "pw", Email: "boss@corp.test"},
		},
		groups: map[string][]string{"1": {"dev", "ops"}},
	}}
	p.w.closed = true
	srv := httptest.NewUnstartedServer(nil)
	p.at = "http://" + srv.Listener.Addr().String()
	p.issuer = openid(t, name, p.at+"/zot/auth/callback/corp", p.people)
	p.w.withIdentity(t, identity.Options{External: p.at, CallbackOrigins: []string{"https://ui.test"}, Providers: []identity.Provider{{
		Name: "corp", Issuer: p.issuer, ClientID: name, ClientSecret: "secret", Scopes: []string{"openid", "email", "profile"}, HTTP: &http.Client{Transport: transport},
	}}})
	srv.Config = p.w.gateway(t).Server()
	srv.Start()
	t.Cleanup(srv.Close)
	return p
}

// browser has cookies and follows redirects.
func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Transport: transport}
}

func open(t *testing.T, resp *http.Response, err error) (*http.Response, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

// login goes from path to the provider's page, and back as the given user.
func (p *portal) login(t *testing.T, b *http.Client, path, user string) (*http.Response, string) {
	t.Helper()
	resp, err := b.Get(p.at + path)
	page, body := open(t, resp, err)
	id := page.Request.URL.Query().Get("authRequestID")
	if id == "" {
		t.Fatalf("no page of the provider but %s: %d %s", page.Request.URL, page.StatusCode, body)
	}
	resp, err = b.PostForm(p.issuer+"/login/username", url.Values{"username": {user}, "password": {"pw"}, "id": {id}})
	return open(t, resp, err)
}

func (p *portal) ui(t *testing.T, b *http.Client, method, path, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, p.at+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Zot-Api-Client", "zot-ui")
	r.Header.Set("Content-Type", "application/json")
	resp, err := b.Do(r)
	return open(t, resp, err)
}

func TestOpenIDLogin(t *testing.T) {
	p := newPortal(t, "login")
	b := browser(t)
	done, body := p.login(t, b, "/zot/auth/login?provider=corp&callback_ui=/livez", "ann")
	if done.Request.URL.String() != p.at+"/livez" || done.StatusCode != 200 {
		t.Fatalf("the login ended at %s: %d %s", done.Request.URL, done.StatusCode, body)
	}
	resp, body := p.ui(t, b, "POST", "/zot/auth/apikey", `{"label":"docker"}`)
	if resp.StatusCode != 201 {
		t.Fatalf("no API key for the session: %d %s", resp.StatusCode, body)
	}
	var key keyAnswer
	if err := json.Unmarshal([]byte(body), &key); err != nil {
		t.Fatal(err)
	}
	do(t, "GET", p.at+"/v2/", nil, basic("ann@corp.test", key.APIKey)...).want(t, 200)
	users, err := p.w.deps.Catalog.Users(t.Context(), registry.Actor{ID: "root"}, registry.Page[string]{Limit: 10})
	if err != nil || len(users.Items) != 1 || !slices.Equal(users.Items[0].Groups, []string{"dev", "ops"}) {
		t.Errorf("users: %+v, %v", users, err)
	}
	// S-007: a group that is gone at the provider is gone here, for the key, too.
	p.people.mu.Lock()
	p.people.groups["1"] = []string{"dev"}
	p.people.mu.Unlock()
	p.login(t, browser(t), "/zot/auth/login?provider=corp", "ann")
	if users, err = p.w.deps.Catalog.Users(t.Context(), registry.Actor{ID: "root"}, registry.Page[string]{Limit: 10}); err != nil || !slices.Equal(users.Items[0].Groups, []string{"dev"}) {
		t.Errorf("groups after one is gone: %+v, %v", users, err)
	}
	resp, body = p.ui(t, b, "POST", "/zot/auth/logout", "")
	if resp.StatusCode != 200 || !strings.Contains(body, `"endSessionUrl":"`+p.issuer) {
		t.Errorf("logout: %d %s", resp.StatusCode, body)
	}
	if resp, body = p.ui(t, b, "GET", "/zot/auth/apikey", ""); resp.StatusCode != 401 {
		t.Errorf("after the logout: %d %s", resp.StatusCode, body)
	}
}

// S-022: a login does not let a disabled user in.
func TestS022LoginOfADisabledUser(t *testing.T) {
	p := newPortal(t, "disabled")
	if err := p.w.deps.Catalog.PutUser(t.Context(), registry.Actor{ID: "root"}, registry.User{ID: "ann@corp.test", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	b := browser(t)
	if done, body := p.login(t, b, "/zot/auth/login?provider=corp", "ann"); done.StatusCode != 403 {
		t.Errorf("login: %d %s", done.StatusCode, body)
	}
	if resp, _ := p.ui(t, b, "GET", "/zot/auth/apikey", ""); resp.StatusCode != 401 {
		t.Errorf("a session: %d", resp.StatusCode)
	}
}

// S-051: an address that nobody has verified is no name.
func TestS051UnverifiedAddress(t *testing.T) {
	p := newPortal(t, "unverified")
	if done, body := p.login(t, browser(t), "/zot/auth/login?provider=corp", "una"); done.StatusCode != 401 {
		t.Errorf("login: %d %s", done.StatusCode, body)
	}
}

// What comes back must belong to what was begun in this browser.
func TestOpenIDCallbacks(t *testing.T) {
	p := newPortal(t, "callback")
	b := browser(t)
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	begin := func() (state string) {
		resp, err := b.Get(p.at + "/zot/auth/login?provider=corp")
		begun, body := open(t, resp, err)
		at, err := begun.Location()
		if err != nil {
			t.Fatalf("%v: %d %s", err, begun.StatusCode, body)
		}
		q := at.Query()
		if q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) < 40 || q.Get("nonce") == "" || q.Get("state") == "" {
			t.Fatalf("a login begins without PKCE, nonce or state: %s", at)
		}
		return q.Get("state")
	}
	get := func(b *http.Client, query string) int {
		resp, err := b.Get(p.at + "/zot/auth/callback/corp?" + query)
		got, _ := open(t, resp, err)
		return got.StatusCode
	}
	state := begin()
	if got := get(browser(t), "code=x&state="+state); got != 401 {
		t.Errorf("a callback in another browser: %d", got)
	}
	for _, query := range []string{"", "code=x", "code=x&state=", "code=x&state=y", "code=x&state=" + state + "&state=" + state} {
		begin()
		if got := get(b, query); got != 401 {
			t.Errorf("callback?%s: %d, want 401", query, got)
		}
	}
	for _, more := range []string{"code=made-up", "error=access_denied", "code=", "code=" + strings.Repeat("x", 3000), "code=x&iss=https://evil"} {
		state := begin()
		if got := get(b, more+"&state="+state); got != 401 {
			t.Errorf("callback?%.40s: %d, want 401", more, got)
		}
		// S-049 and replay: the cookie was for one callback.
		if got := get(b, "code=x&state="+state); got != 401 {
			t.Errorf("a second callback: %d", got)
		}
	}
	if resp, err := b.Get(p.at + "/zot/auth/callback/other?code=x"); err != nil || resp.StatusCode != 404 {
		t.Errorf("callback of another provider: %v, %v", resp, err)
	}
}

// S-049: a login does not lead elsewhere.
func TestS049OpenRedirects(t *testing.T) {
	p := newPortal(t, "redirect")
	for _, next := range []string{
		"//evil", `/\evil`, `\\evil`, "/%5cevil", "https:evil", "/\tevil", "/\nevil", "/%09/evil", "javascript:alert(1)", "/@evil", "https://u:p@ui.test/", "https://ui.test@evil/",
		"https://evil/", "http://ui.test/", "https://ui.test.evil/", "///evil", "/%2f/evil", "data:text/html,x", "evil", "https:///evil",
	} {
		do(t, "GET", p.at+"/zot/auth/login?provider=corp&callback_ui="+url.QueryEscape(next), nil).want(t, 400)
	}
	do(t, "GET", p.at+"/zot/auth/login?provider=other", nil).want(t, 400)
	b := browser(t)
	b.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for _, next := range []string{"/", "/home?x=1", "https://ui.test/a"} {
		resp, err := b.Get(p.at + "/zot/auth/login?provider=corp&callback_ui=" + url.QueryEscape(next))
		if got, body := open(t, resp, err); got.StatusCode != 302 {
			t.Errorf("callback_ui %s: %d %s", next, got.StatusCode, body)
		}
	}
}

// S-052: an issuer that is not itself is no issuer.
func TestS052FalseIssuers(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a request to where discovery was led: %s", r.URL)
	}))
	defer evil.Close()
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, evil.URL+r.URL.Path, http.StatusFound)
		},
		"another's issuer": func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"issuer":"https://other"}`) },
		"no JSON":          func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `<html>`) },
		"no answer":        func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
	} {
		issuer := httptest.NewServer(http.HandlerFunc(answer))
		w := newWorld()
		w.withIdentity(t, identity.Options{External: "http://here", Providers: []identity.Provider{{Name: "corp", Issuer: issuer.URL, ClientID: "x", HTTP: &http.Client{Transport: transport}}}})
		at := w.serve(t)
		if got := do(t, "GET", at+"/zot/auth/login?provider=corp", nil); got.status != 503 {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
		issuer.Close()
	}
}

// A program logs in by a code that its user agrees to in the browser.
func TestDeviceLogin(t *testing.T) {
	p := newPortal(t, "device")
	const form = "Content-Type: application/x-www-form-urlencoded"
	var begun struct {
		Device   string `json:"device_code"`
		User     string `json:"user_code"`
		Complete string `json:"verification_uri_complete"`
	}
	a := do(t, "POST", p.at+"/zot/auth/device", strings.NewReader("client_id=laptop&scope=team/**:pull"), form).want(t, 200)
	if err := json.Unmarshal([]byte(a.body), &begun); err != nil {
		t.Fatal(err)
	}
	ask := func() answer {
		return do(t, "POST", p.at+"/zot/auth/device/token", strings.NewReader(url.Values{"device_code": {begun.Device}, "grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}}.Encode()), form)
	}
	if got := ask(); got.status != 400 || !strings.Contains(got.body, "authorization_pending") {
		t.Fatalf("before the user agreed: %d %s", got.status, got.body)
	}
	b := browser(t)
	page, body := p.login(t, b, strings.TrimPrefix(begun.Complete, p.at), "ann")
	csrf := regexp.MustCompile(`name="csrf" value="([0-9a-f]+)"`).FindStringSubmatch(body)
	if csrf == nil || !strings.Contains(body, begun.User) || !strings.Contains(body, "ann@corp.test") {
		t.Fatalf("page at %s: %s", page.Request.URL, body)
	}
	if csp := page.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("Content-Security-Policy: %q", csp)
	}
	approve := func(csrf string, headers ...string) int {
		r, err := http.NewRequestWithContext(t.Context(), "POST", p.at+"/zot/auth/device/approve", strings.NewReader(url.Values{"user_code": {begun.User}, "csrf": {csrf}}.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for _, h := range headers {
			k, v, _ := strings.Cut(h, ": ")
			r.Header.Set(k, v)
		}
		resp, err := b.Do(r)
		got, _ := open(t, resp, err)
		return got.StatusCode
	}
	if got := approve(csrf[1], "Origin: https://evil"); got != 403 {
		t.Errorf("approved by another site: %d", got)
	}
	if got := approve("0000"); got != 403 {
		t.Errorf("approved by a form of another session: %d", got)
	}
	if got := approve(csrf[1]); got != 200 {
		t.Fatalf("approve: %d", got)
	}
	if got := approve(csrf[1]); got != 400 {
		t.Errorf("approved twice: %d", got)
	}
	var key struct {
		Token string `json:"access_token"`
		User  string `json:"username"`
	}
	if err := json.Unmarshal([]byte(ask().want(t, 200).body), &key); err != nil || key.User != "ann@corp.test" {
		t.Fatalf("key of %q, %v", key.User, err)
	}
	do(t, "GET", p.at+"/v2/", nil, basic(key.User, key.Token)...).want(t, 200)
	if got := ask(); got.status != 400 || !strings.Contains(got.body, "expired_token") {
		t.Errorf("asked twice: %d %s", got.status, got.body)
	}
}
