package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/memory"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// passwords is a method that knows users whose password is their name.
type passwords []string

func (passwords) Name() string { return "test" }

func (p passwords) Authenticate(_ context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	for _, user := range p {
		if q.Basic != nil && q.Basic.User == user && q.Basic.Password == user {
			return registry.Actor{ID: user, Groups: []string{"staff"}}, auth.Accepted, nil
		}
	}
	return registry.Actor{}, auth.Unknown, nil
}

// withIdentity gives the world users, a token service and API keys.
func (w *world) withIdentity(t testing.TB, o identity.Options, users ...string) {
	t.Helper()
	o.Catalog, o.Audience, o.APIKeys = w.deps.Catalog, "berth.test", true
	s := identity.New(o)
	t.Cleanup(func() { _ = s.Close() })
	w.deps.Identity = s
	w.deps.Auth = auth.New(auth.Options{
		Closed: true, Admit: s.Admit,
		Anonymous: func() bool { return !w.closed },
		Methods: auth.Methods{
			Basic: []auth.Method{passwords(users), s.Basic()}, Bearer: []auth.Method{s.Bearer()}, Session: []auth.Method{s.Session()},
		},
		Challenge: auth.Challenge{Realm: "r", TokenRealm: "https://berth.test/zot/auth/token", Service: "berth.test"},
	})
}

type tokenAnswer struct {
	Token        string `json:"token"`
	AccessToken  string `json:"access_token"`
	ExpiresIn    int    `json:"expires_in"`
	IssuedAt     string `json:"issued_at"`
	RefreshToken string `json:"refresh_token"`
}

// askToken asks for a token with scopes.
func askToken(t testing.TB, at string, headers []string, scopes ...string) tokenAnswer {
	t.Helper()
	return askTokenOf(t, at, "berth.test", headers, scopes...)
}

// askTokenOf asks for a token for a registry that is known under another name.
func askTokenOf(t testing.TB, at, service string, headers []string, scopes ...string) tokenAnswer {
	t.Helper()
	q := url.Values{"service": {service}, "scope": scopes}
	a := do(t, "GET", at+"/zot/auth/token?"+q.Encode(), nil, headers...).want(t, 200)
	var got tokenAnswer
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatal(err)
	}
	if got.Token == "" || got.Token != got.AccessToken || got.ExpiresIn <= 0 || got.IssuedAt == "" {
		t.Fatalf("token answer: %s", a.body)
	}
	return got
}

func basic(user, password string) []string {
	r, _ := http.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return []string{"Authorization: " + r.Header.Get("Authorization")}
}

func bearer(token string) []string { return []string{"Authorization: Bearer " + token} }

func TestTokenFlow(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	challenge := do(t, "GET", at+"/v2/", nil).want(t, 401).header.Get("Www-Authenticate")
	if want := `Bearer realm="https://berth.test/zot/auth/token",service="berth.test"`; challenge != want {
		t.Errorf("challenge of /v2/: %s, want %s", challenge, want)
	}
	push := askToken(t, at, basic("alice", "alice"), "repository:a/b:pull,push").Token
	do(t, "GET", at+"/v2/", nil, bearer(push)...).want(t, 200)
	do(t, "POST", at+"/v2/a/b/blobs/uploads/", nil, bearer(push)...).want(t, 202)
	do(t, "POST", at+"/v2/other/blobs/uploads/", nil, bearer(push)...).want(t, 401)

	pull := askToken(t, at, basic("alice", "alice"), "repository:a/b:pull").Token
	do(t, "GET", at+"/v2/a/b/tags/list", nil, bearer(pull)...).want(t, 404)
	refused := do(t, "POST", at+"/v2/a/b/blobs/uploads/", nil, bearer(pull)...).want(t, 401).header.Get("Www-Authenticate")
	if want := `,scope="repository:a/b:pull,push",error="insufficient_scope"`; !strings.HasSuffix(refused, want) {
		t.Errorf("challenge of a push with a token to pull: %s, want one that ends in %s", refused, want)
	}
	do(t, "DELETE", at+"/v2/a/b/manifests/x", nil, bearer(push)...).want(t, 401)
	do(t, "GET", at+"/v2/_catalog", nil, bearer(pull)...).want(t, 401)
	list := askToken(t, at, basic("alice", "alice"), "registry:catalog:*").Token
	do(t, "GET", at+"/v2/_catalog", nil, bearer(list)...).want(t, 200)

	several := askToken(t, at, basic("alice", "alice"), "repository:a:pull repository:b:pull", "repository:c:pull").Token
	for _, repo := range []string{"a", "b", "c"} {
		do(t, "GET", at+"/v2/"+repo+"/tags/list", nil, bearer(several)...).want(t, 404)
	}
	do(t, "GET", at+"/v2/d/tags/list", nil, bearer(several)...).want(t, 401)

	// Nobody: a token for what anonymous clients may do. A wrong password gets none.
	askToken(t, at, nil, "repository:a:pull")
	do(t, "GET", at+"/zot/auth/token", nil, basic("alice", "wrong")...).want(t, 401)
	do(t, "GET", at+"/zot/auth/token?service=elsewhere", nil, basic("alice", "alice")...).want(t, 400)
	// A token does not make another.
	do(t, "GET", at+"/zot/auth/token?scope=repository:z:pull", nil, bearer(several)...).want(t, 401)
}

// The OAuth2 form of the token request, and refresh tokens, which are for API keys
// only and end with them.
func TestRefreshTokens(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	if got := askToken(t, at, basic("alice", "alice")); got.RefreshToken != "" {
		t.Error("a refresh token that nobody asked for")
	}
	var withPassword tokenAnswer
	a := do(t, "GET", at+"/zot/auth/token?offline_token=true", nil, basic("alice", "alice")...).want(t, 200)
	if err := json.Unmarshal([]byte(a.body), &withPassword); err != nil || withPassword.RefreshToken != "" {
		t.Errorf("a refresh token for a password: %s, %v", a.body, err)
	}
	key := makeKey(t, at, basic("alice", "alice"), `{"label":"ci","scopes":["a/**:pull"]}`)
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {key.APIKey}, "access_type": {"offline"}, "scope": {"repository:a/b:pull,push"}, "service": {"berth.test"}}
	const isForm = "Content-Type: application/x-www-form-urlencoded"
	var got tokenAnswer
	a = do(t, "POST", at+"/zot/auth/token", strings.NewReader(form.Encode()), isForm).want(t, 200)
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || got.RefreshToken == "" {
		t.Fatalf("no refresh token for an API key: %s, %v", a.body, err)
	}
	again := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}, "scope": {"repository:a/b:pull,push"}, "service": {"berth.test"}}
	refresh := func() answer {
		return do(t, "POST", at+"/zot/auth/token", strings.NewReader(again.Encode()), isForm)
	}
	var next tokenAnswer
	if err := json.Unmarshal([]byte(refresh().want(t, 200).body), &next); err != nil {
		t.Fatal(err)
	}
	do(t, "GET", at+"/v2/a/b/tags/list", nil, bearer(next.Token)...).want(t, 404)
	// S-058: a refresh token is no access token, no password, and the other way round.
	do(t, "GET", at+"/v2/a/b/tags/list", nil, bearer(got.RefreshToken)...).want(t, 401)
	do(t, "GET", at+"/v2/a/b/tags/list", nil, basic("alice", got.RefreshToken)...).want(t, 401)
	do(t, "GET", at+"/v2/a/b/tags/list", nil, basic("alice", next.Token)...).want(t, 401)
	do(t, "GET", at+"/v2/a/b/tags/list", nil, bearer(key.APIKey)...).want(t, 401)
	for _, wrong := range []string{next.Token, key.APIKey, ""} {
		again.Set("refresh_token", wrong)
		refresh().want(t, 401)
	}
	again.Set("refresh_token", got.RefreshToken)
	do(t, "DELETE", at+"/zot/auth/apikey?id="+key.UUID, nil, basic("alice", "alice")...).want(t, 200)
	refresh().want(t, 401)
}

type keyAnswer struct {
	UUID   string   `json:"uuid"`
	APIKey string   `json:"apiKey"`
	Label  string   `json:"label"`
	Scopes []string `json:"scopes"`
}

func makeKey(t *testing.T, at string, headers []string, body string) keyAnswer {
	t.Helper()
	var k keyAnswer
	a := do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(body), headers...).want(t, 201)
	if err := json.Unmarshal([]byte(a.body), &k); err != nil || !strings.HasPrefix(k.APIKey, "zak_") {
		t.Fatalf("API key: %s, %v", a.body, err)
	}
	return k
}

func TestAPIKeys(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice", "bob")
	at := w.serve(t)
	alice := basic("alice", "alice")
	key := makeKey(t, at, alice, `{"label":"git","scopes":["repo1","repo2"],"expirationDate":"2999-01-01T00:00:00Z"}`)
	do(t, "GET", at+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 200)
	knower, _ := w.deps.Identity.Basic().(auth.Knower)
	for user, want := range map[string]bool{"alice": true, "bob": false} { // S-040: a key of one's own lets nobody guess at others
		if got := knower.Known(&auth.Request{Basic: &auth.Basic{User: user, Password: key.APIKey}}); got != want {
			t.Errorf("whether the key of alice is known to be that of %s: %v", user, got)
		}
	}
	// The name counts, too.
	do(t, "GET", at+"/v2/", nil, basic("bob", key.APIKey)...).want(t, 401)
	if list := do(t, "GET", at+"/zot/auth/apikey", nil, alice...).want(t, 200).body; !strings.Contains(list, key.UUID) || strings.Contains(list, key.APIKey) {
		t.Errorf("list of keys: %s", list)
	}
	if list := do(t, "GET", at+"/zot/auth/apikey", nil, basic("bob", "bob")...).want(t, 200).body; strings.TrimSpace(list) != `{"apiKeys":[]}` {
		t.Errorf("bob's list of keys: %s", list)
	}
	// S-012: another's key is not there.
	do(t, "DELETE", at+"/zot/auth/apikey?id="+key.UUID, nil, basic("bob", "bob")...).want(t, 400)
	// A key with limits makes no keys.
	do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(`{"label":"x"}`), basic("alice", key.APIKey)...).want(t, 403)
	do(t, "DELETE", at+"/zot/auth/apikey?id="+key.UUID, nil, basic("alice", key.APIKey)...).want(t, 403)
	do(t, "GET", at+"/zot/auth/apikey", nil).want(t, 401)
	for _, body := range []string{``, `{`, `[]`, `{"label":"x"} {}`, `{"scopes":["[:pull"]}`, `{"scopes":["a:dance"]}`, `{"expirationDate":"tomorrow"}`, `{"expirationDate":"2001-01-01T00:00:00Z"}`} {
		do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(body), alice...).want(t, 400)
	}
	do(t, "DELETE", at+"/zot/auth/apikey?id="+key.UUID, nil, alice...).want(t, 200)
	do(t, "GET", at+"/v2/", nil, basic("alice", key.APIKey)...).want(t, 401)
	do(t, "DELETE", at+"/zot/auth/apikey", nil, alice...).want(t, 400)
}

// S-020: an API key to read stays one to read when it is exchanged for a token.
func TestS020KeyKeepsItsLimitAsAToken(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	key := makeKey(t, at, basic("alice", "alice"), `{"label":"r","scopes":["a/**:pull"]}`)
	got := askToken(t, at, basic("alice", key.APIKey), "repository:a/b:pull,push", "repository:c:pull").Token
	do(t, "GET", at+"/v2/a/b/tags/list", nil, bearer(got)...).want(t, 404)
	if c := do(t, "POST", at+"/v2/a/b/blobs/uploads/", nil, bearer(got)...).want(t, 401).header.Get("Www-Authenticate"); !strings.Contains(c, `error="insufficient_scope"`) {
		t.Errorf("challenge: %s", c)
	}
	do(t, "GET", at+"/v2/c/tags/list", nil, bearer(got)...).want(t, 401)
}

// A token that was made for nobody says of a registry that is closed to nobodies
// why it is refused: docker push ends with that, and would try again otherwise.
func TestAnonymousTokenOfAClosedRegistry(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	w.closed = true
	at := w.serve(t)
	got := askToken(t, at, nil, "repository:a/b:pull,push").Token
	for _, target := range []string{"POST blobs/uploads/", "GET manifests/x"} {
		method, path, _ := strings.Cut(target, " ")
		c := do(t, method, at+"/v2/a/b/"+path, nil, bearer(got)...).want(t, 401).header.Get("Www-Authenticate")
		if !strings.HasSuffix(c, `,error="insufficient_scope"`) {
			t.Errorf("%s: challenge %s", target, c)
		}
	}
	if c := do(t, "GET", at+"/v2/a/b/manifests/x", nil).want(t, 401).header.Get("Www-Authenticate"); strings.Contains(c, "error=") {
		t.Errorf("without a token: challenge %s", c)
	}
}

// S-020: a key to read some repositories lists those, as a token, too.
func TestS020KeyKeepsItsLimitInLists(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	alice := basic("alice", "alice")
	for _, repo := range []string{"a/b", "secret"} {
		pushImage(t, at, repo, "t", alice...)
	}
	for body, want := range map[string]string{
		`{"label":"some","scopes":["a/**:pull"]}`:                                `["a/b"]`,
		`{"label":"all","scopes":["a/**:pull","registry:catalog:*"]}`:            `["a/b","secret"]`,
		`{"label":"any","scopes":["**:pull"]}`:                                   `["a/b","secret"]`,
		`{"label":"push only","scopes":["secret:push","a/**:pull,push,delete"]}`: `["a/b"]`,
		`{"label":"no limit"}`:                                                   `["a/b","secret"]`,
	} {
		key := makeKey(t, at, alice, body)
		direct := do(t, "GET", at+"/v2/_catalog", nil, basic("alice", key.APIKey)...).want(t, 200).body
		token := askToken(t, at, basic("alice", key.APIKey), "registry:catalog:*").Token
		got := do(t, "GET", at+"/v2/_catalog", nil, bearer(token)...).want(t, 200).body
		for how, list := range map[string]string{"as a password": direct, "as a token": got} {
			if !strings.Contains(list, want) {
				t.Errorf("%s %s lists %s, want %s", body, how, list, want)
			}
		}
	}
	key := makeKey(t, at, alice, `{"label":"push","scopes":["secret:push"]}`)
	token := askToken(t, at, basic("alice", key.APIKey), "registry:catalog:*").Token
	do(t, "GET", at+"/v2/_catalog", nil, bearer(token)...).want(t, 401)
}

// Who is disabled is out, by password, key and token, once gateways have heard.
func TestDisabledUserIsOut(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	key := makeKey(t, at, basic("alice", "alice"), `{"label":"k"}`)
	got := askToken(t, at, basic("alice", key.APIKey), "repository:a:pull").Token
	if err := w.deps.Catalog.PutUser(t.Context(), registry.Actor{ID: "root"}, registry.User{ID: "alice", Disabled: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.deps.Identity.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, h := range [][]string{basic("alice", "alice"), basic("alice", key.APIKey), bearer(got)} {
		do(t, "GET", at+"/v2/a/tags/list", nil, h...).want(t, 401)
	}
	do(t, "GET", at+"/zot/auth/token", nil, basic("alice", "alice")...).want(t, 401)
}

// Two gateways of one catalog: what one signs the other believes, until the key is gone.
func TestTokensOfAnotherGateway(t *testing.T) {
	shared := memory.NewCatalog(memory.CatalogOptions{})
	var at [2]string
	var worlds [2]*world
	for i := range at {
		w := newWorld()
		w.deps.Catalog = shared
		w.withIdentity(t, identity.Options{}, "alice")
		at[i], worlds[i] = w.serve(t), w
	}
	got := askToken(t, at[0], basic("alice", "alice"), "repository:a:pull").Token
	do(t, "GET", at[1]+"/v2/a/tags/list", nil, bearer(got)...).want(t, 404)
	if err := shared.RotateTokenKeys(t.Context(), registry.Actor{ID: "root"}); err != nil {
		t.Fatal(err)
	}
	for i, w := range worlds {
		if err := w.deps.Identity.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		do(t, "GET", at[i]+"/v2/a/tags/list", nil, bearer(got)...).want(t, 401)
	}
	got = askToken(t, at[1], basic("alice", "alice"), "repository:a:pull").Token
	do(t, "GET", at[0]+"/v2/a/tags/list", nil, bearer(got)...).want(t, 404)
}

// issued is a method that knows one token of an issuer.
type issued string

func (issued) Name() string { return "issuer" }

func (i issued) Authenticate(_ context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	if q.Bearer == string(i) || q.Basic != nil && q.Basic.Password == string(i) {
		return registry.Actor{ID: "robot", Groups: []string{"ci"}}, auth.Accepted, nil
	}
	return registry.Actor{}, auth.Unknown, nil
}

// A token of an issuer is exchanged for one of ours, however it is shown; S-026:
// another's is not.
func TestS026TokensOfIssuersAreExchanged(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{})
	s := w.deps.Identity
	w.deps.Auth = auth.New(auth.Options{Closed: true, Admit: s.Admit, Methods: auth.Methods{Basic: []auth.Method{issued("idtoken")}, Bearer: []auth.Method{issued("idtoken"), s.Bearer()}}})
	at := w.serve(t)
	for _, headers := range [][]string{bearer("idtoken"), basic("anything", "idtoken")} {
		got := askToken(t, at, headers, "repository:a:pull").Token
		do(t, "GET", at+"/v2/a/tags/list", nil, bearer(got)...).want(t, 404)
		do(t, "GET", at+"/v2/b/tags/list", nil, bearer(got)...).want(t, 401)
		do(t, "GET", at+"/zot/auth/token", nil, bearer(got)...).want(t, 401)
	}
	for _, headers := range [][]string{bearer("another"), basic("anything", "another")} {
		do(t, "GET", at+"/zot/auth/token", nil, headers...).want(t, 401)
	}
}

// S-147: what is done with credentials leaves events, without the secrets.
func TestS147AuditOfCredentials(t *testing.T) {
	w := newWorld()
	out := new(bytes.Buffer)
	w.deps.Audit = out
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	one := func(event, subject, result string, secrets ...string) {
		t.Helper()
		text := out.String()
		var found bool
		for _, e := range events(t, out) {
			found = found || e["event"] == event && e["subject"] == subject && e["result"] == result && e["requestId"] != ""
		}
		if !found {
			t.Errorf("no event %s of %s, %s in\n%s", event, subject, result, text)
		}
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the event %s has a secret in it", event)
			}
		}
	}
	key := makeKey(t, at, basic("alice", "alice"), `{"label":"x"}`)
	one("apikey.create", "alice", "ok", key.APIKey)
	got := askToken(t, at, basic("alice", key.APIKey), "repository:a:pull")
	one("token.issue", "alice", "ok", key.APIKey, got.Token)
	do(t, "GET", at+"/zot/auth/token", nil, basic("alice", "wrong")...).want(t, 401)
	one("login.failed", "alice", "UNAUTHORIZED")
	do(t, "DELETE", at+"/zot/auth/apikey?id="+key.UUID, nil, basic("alice", "alice")...).want(t, 200)
	one("apikey.remove", "alice", "ok")
}

// S-048: cookies are nothing to the registry itself, and to the rest only from the
// web UI of the same site.
func TestS048S054CookiesOfAnotherSite(t *testing.T) {
	w := newWorld()
	w.closed = true
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	const ui = "X-ZOT-API-CLIENT: zot-ui"
	cookies := do(t, "GET", at+"/v2/", nil, append(basic("alice", "alice"), ui)...).want(t, 200).header.Values("Set-Cookie")
	session := ""
	for _, c := range cookies {
		if strings.HasPrefix(c, "session=") {
			session, _, _ = strings.Cut(c, ";")
			if !strings.Contains(c, "HttpOnly") || !strings.Contains(c, "SameSite=Lax") {
				t.Errorf("cookie of a session: %s", c)
			}
		}
	}
	if session == "" {
		t.Fatalf("no session for the web UI: %q", cookies)
	}
	cookie := "Cookie: " + session
	do(t, "GET", at+"/zot/auth/apikey", nil, cookie, ui).want(t, 200)
	do(t, "GET", at+"/zot/auth/apikey", nil, cookie).want(t, 401)
	do(t, "GET", at+"/v2/a/tags/list", nil, cookie, ui).want(t, 401)
	do(t, "GET", at+"/v2/_catalog", nil, cookie, ui).want(t, 401)
	const isJSON = "Content-Type: application/json"
	post := func(headers ...string) answer {
		return do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(`{"label":"x"}`), append([]string{cookie, ui}, headers...)...)
	}
	post(isJSON, "Sec-Fetch-Site: same-origin").want(t, 201)
	for _, h := range [][]string{
		{isJSON, "Origin: https://evil"}, {isJSON, "Origin: null"}, {isJSON, "Sec-Fetch-Site: cross-site"}, {isJSON, "Sec-Fetch-Site: same-site"}, {"Content-Type: text/plain"},
	} {
		post(h...).want(t, 403)
	}
	// S-054: no script of another site reads an answer.
	if a := do(t, "GET", at+"/zot/auth/apikey", nil, cookie, ui, "Origin: https://evil"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("answer to another origin: %v", a.header)
	}
	do(t, "POST", at+"/zot/auth/logout", nil, cookie, "Sec-Fetch-Site: cross-site").want(t, 403)
	do(t, "POST", at+"/zot/auth/logout", nil, cookie).want(t, 200)
	do(t, "GET", at+"/zot/auth/apikey", nil, cookie, ui).want(t, 401)
}

// A session or a key that is made with an API key does not go on when that key has
// ended.
func TestNothingOutlivesTheKeyThatMadeIt(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	const ui = "X-ZOT-API-CLIENT: zot-ui"
	short := makeKey(t, at, basic("alice", "alice"), `{"label":"short","expirationDate":"2998-01-01T00:00:00Z"}`)
	if c := do(t, "GET", at+"/v2/", nil, append(basic("alice", short.APIKey), ui)...).want(t, 200).header.Values("Set-Cookie"); len(c) > 0 {
		t.Errorf("an API key got a session: %q", c)
	}
	create := func(body string) answer {
		return do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(body), basic("alice", short.APIKey)...)
	}
	create(`{"label":"longer","expirationDate":"2999-01-01T00:00:00Z"}`).want(t, 403)
	create(`{"label":"shorter","expirationDate":"2997-01-01T00:00:00Z"}`).want(t, 201)
	if a := create(`{"label":"as long"}`).want(t, 201); !strings.Contains(a.body, `"expirationDate":"2998-01-01T00:00:00Z"`) {
		t.Errorf("a key of a key that expires: %s", a.body)
	}
	endless := makeKey(t, at, basic("alice", "alice"), `{"label":"endless"}`)
	makeKey(t, at, basic("alice", endless.APIKey), `{"label":"endless, too"}`)
}

// S-048: a browser that remembers a password does not make keys for another site.
func TestS048KeysForAnotherSite(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	for _, h := range []string{"Origin: https://evil", "Sec-Fetch-Site: cross-site", "Origin: null"} {
		do(t, "POST", at+"/zot/auth/apikey", strings.NewReader(`{"label":"x"}`), append(basic("alice", "alice"), "Content-Type: text/plain", h)...).want(t, 403)
	}
}

// S-147: a wrong password in the form of a token request is a login that failed, too,
// and a key that can't be removed leaves an event. Secrets in the URL are not looked at, and
// not logged.
func TestS147FormsOfTokenRequests(t *testing.T) {
	w := newWorld()
	out, log := new(bytes.Buffer), new(bytes.Buffer)
	w.deps.Audit, w.log = out, slog.New(slog.NewTextHandler(log, nil))
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	const isForm = "Content-Type: application/x-www-form-urlencoded"
	form := url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {"wrong"}}
	do(t, "POST", at+"/zot/auth/token", strings.NewReader(form.Encode()), isForm).want(t, 401)
	do(t, "DELETE", at+"/zot/auth/apikey?id=x", nil, basic("alice", "alice")...).want(t, 400)
	var got []string
	for _, e := range events(t, out) {
		got = append(got, e["event"].(string)+" "+e["subject"].(string)+" "+e["result"].(string))
	}
	for _, want := range []string{"login.failed alice UNAUTHORIZED", "apikey.remove alice UNSUPPORTED"} {
		if !slices.Contains(got, want) {
			t.Errorf("no event %q in %q", want, got)
		}
	}
	form.Set("password", "alice")
	do(t, "POST", at+"/zot/auth/token", strings.NewReader(form.Encode()), isForm).want(t, 200)
	form.Set("client_id", "canary")
	do(t, "POST", at+"/zot/auth/token?"+form.Encode(), nil, isForm).want(t, 400)
	if strings.Contains(log.String(), "canary") {
		t.Errorf("the form of a token request is logged: %s", log)
	}
}

// Rates hold for those who ask for credentials as for all others.
func TestS122RatesOfCredentials(t *testing.T) {
	w := newWorld()
	w.cfg.Rates = Rates{All: 3}
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	for _, path := range []string{"/zot/auth/token?scope=repository:a:pull", "/zot/auth/apikey", "/zot/auth/device"} {
		limited := 0
		for range 20 {
			if a := do(t, "GET", at+path, nil, basic("alice", "alice")...); a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" {
				limited++
			}
		}
		if limited == 0 {
			t.Errorf("%s: no request of 20 is limited", path)
		}
	}
}

// S-007: who was in a group makes no key that is, once the registry has heard of it,
// whatever this gateway remembers.
func TestS007KeysOfALeftGroup(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{}, "alice")
	at := w.serve(t)
	cookie, ui := "", "X-ZOT-API-CLIENT: zot-ui"
	for _, c := range do(t, "GET", at+"/v2/", nil, append(basic("alice", "alice"), ui)...).want(t, 200).header.Values("Set-Cookie") {
		if strings.HasPrefix(c, "session=") {
			cookie, _, _ = strings.Cut(c, ";")
		}
	}
	old := makeKey(t, at, basic("alice", "alice"), `{"label":"old"}`)
	for _, headers := range [][]string{{"Cookie: " + cookie, ui, "Content-Type: application/json"}, basic("alice", old.APIKey)} {
		do(t, "GET", at+"/zot/auth/apikey", nil, headers...).want(t, 200) // alice is of the staff
		if _, err := w.deps.Catalog.Login(t.Context(), registry.Login{ID: "alice"}); err != nil {
			t.Fatal(err)
		}
		key := makeKey(t, at, headers, `{"label":"new"}`)
		hash := registry.SecretHash(registry.APIKey, key.APIKey)
		if _, u, err := w.deps.Catalog.UseCredential(t.Context(), registry.APIKey, hash[:]); err != nil || len(u.Groups) > 0 {
			t.Errorf("a new key is of the groups %q, %v", u.Groups, err)
		}
		if _, err := w.deps.Catalog.Login(t.Context(), registry.Login{ID: "alice", Groups: []string{"staff"}}); err != nil {
			t.Fatal(err)
		}
	}
}

// S-122: one client does not use up the codes of all who log in by one.
func TestS122CodesOfOneClient(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{Providers: []identity.Provider{{Name: "p"}}}, "alice")
	g := w.gateway(t)
	begin := func(remote string) int {
		r := httptest.NewRequest("POST", "/zot/auth/device", nil)
		r.RemoteAddr = remote
		answer := httptest.NewRecorder()
		g.ServeHTTP(answer, r)
		return answer.Code
	}
	for range registry.MaxCredentials {
		begin("192.0.2.1:1")
	}
	if got := begin("192.0.2.1:2"); got != http.StatusTooManyRequests {
		t.Errorf("one more of a greedy client: status %d", got)
	}
	if got := begin("192.0.2.2:1"); got != http.StatusOK {
		t.Errorf("another client: status %d", got)
	}
}
