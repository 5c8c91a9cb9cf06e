package gateway

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// inside asks a gateway without a network, so that a bubble's clock is its own.
type inside struct{ *Gateway }

func (g inside) do(t *testing.T, method, path, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for _, h := range headers {
		key, value, _ := strings.Cut(h, ": ")
		r.Header.Add(key, value)
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

const elsewhere = "token for another repository"

// refused asks every route with a credential that must be refused, and shown nothing.
// fill completes the path of a row.
func (g inside) refused(t *testing.T, name string, headers []string, fill func(path string) string) {
	t.Helper()
	for res, rows := range matrix {
		if res < metricsPage {
			continue // for everybody
		}
		for method, row := range rows {
			path := fill(row.path)
			if name == elsewhere && (!strings.Contains(path, "a/secret") || res == userPrefs) {
				continue
			}
			body, err := io.ReadAll(matrixBody(res, method))
			if err != nil {
				t.Fatal(err)
			}
			got := g.do(t, method, path, string(body), append(slices.Clone(headers), "Content-Type: "+matrixType(res))...)
			if got.status != 401 || strings.Contains(got.body, "layers") || got.header.Get("Docker-Content-Digest") != "" {
				t.Errorf("%s %s with a credential that is no more (%s): %d %s", method, path, name, got.status, got.body)
			}
			if challenge := got.header.Get("Www-Authenticate"); name == elsewhere && !strings.Contains(challenge, "insufficient_scope") {
				t.Errorf("%s %s with a %s: challenge %s", method, path, name, challenge)
			}
		}
	}
}

// TestS001CredentialsThatAreNoMore asks every route with credentials that were good: each
// is refused on each, and shown nothing.
func TestS001CredentialsThatAreNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.closed, w.cfg.Metrics = true, "/metrics"
		w.withIdentity(t, identity.Options{}, "alice", "bob")
		g := inside{w.gateway(t)}
		alice, bob := basic("alice", "alice"), basic("bob", "bob")
		const empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
		g.do(t, "POST", "/v2/a/secret/blobs/uploads/?digest="+empty, "{}", alice...).want(t, 201)
		g.do(t, "PUT", "/v2/a/secret/manifests/t", emptyImage, append(alice, "Content-Type: "+registry.TypeManifest)...).want(t, 201)
		at := g.do(t, "POST", "/v2/a/secret/blobs/uploads/", "", alice...).want(t, 202).header.Get("Location")
		digest := registry.SHA256.FromString(emptyImage).String()

		token := func(scope string, who []string) []string {
			t.Helper()
			var got tokenAnswer
			a := g.do(t, "GET", "/zot/auth/token?"+url.Values{"service": {"berth.test"}, "scope": {scope}}.Encode(), "", who...).want(t, 200)
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatal(err)
			}
			return bearer(got.Token)
		}
		key := func(user, body string) (id string, headers []string) {
			t.Helper()
			var k keyAnswer
			a := g.do(t, "POST", "/zot/auth/apikey", body, basic(user, user)...).want(t, 201)
			if err := json.Unmarshal([]byte(a.body), &k); err != nil {
				t.Fatal(err)
			}
			return k.UUID, basic(user, k.APIKey)
		}
		// refused asks every route with credentials that must be refused: tokens, which
		// do not last, before passwords and keys, of which too many wrong ones in a minute
		// are not looked at.
		refused := func(gone map[string][]string) {
			t.Helper()
			for _, scheme := range []string{"Bearer", "Basic"} {
				for name, headers := range gone {
					if !strings.HasPrefix(headers[0], "Authorization: "+scheme) {
						continue
					}
					g.refused(t, name, headers, func(path string) string {
						if scheme == "Basic" {
							time.Sleep(4 * time.Second) // fake: this is a bubble
						}
						if path == "%u" {
							return at + "&digest=" + digest
						}
						return strings.ReplaceAll(path, "%s", digest)
					})
				}
			}
		}
		const all, lists = "repository:a/secret:pull,push,delete", "registry:catalog:*"
		soon, later := make(map[string][]string), map[string][]string{"expired token": token(all, alice), "expired token for lists": token(lists, alice)}
		var revoked string
		revoked, soon["revoked key"] = key("alice", `{"label":"x"}`)
		later["token of a revoked key"] = token(all, soon["revoked key"])
		_, later["expired key"] = key("alice", `{"label":"x","expirationDate":"`+time.Now().Add(time.Minute).UTC().Format(time.RFC3339)+`"}`)
		_, soon["key of a disabled user"] = key("bob", `{"label":"x"}`)
		soon["token of a disabled user"], soon["disabled user"] = token(all, bob), bob
		for name, headers := range soon { // as long as they are good
			if a := g.do(t, "GET", "/v2/", "", headers...); a.status != 200 {
				t.Fatalf("void: %s: %d %s", name, a.status, a.body)
			}
		}
		for name, headers := range later {
			if a := g.do(t, "GET", "/v2/", "", headers...); a.status != 200 {
				t.Fatalf("void: %s: %d %s", name, a.status, a.body)
			}
		}
		g.do(t, "DELETE", "/zot/auth/apikey?id="+revoked, "", alice...).want(t, 200)
		if err := w.deps.Catalog.PutUser(t.Context(), registry.Actor{ID: "root"}, registry.User{ID: "bob", Disabled: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second) // fake: gateways hear of it within 10
		refused(soon)
		time.Sleep(7 * time.Minute) // a token lives for 5, and clocks may be wrong by one
		later["token of a key that was replaced"] = token(all, alice)
		if err := w.deps.Catalog.RotateTokenKeys(t.Context(), registry.Actor{System: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second)
		later[elsewhere] = token("repository:b/x:pull,push,delete", alice)
		refused(later)
		// What they were good for is there still.
		g.do(t, "GET", "/v2/a/secret/manifests/t", "", alice...).want(t, 200)
		g.do(t, "GET", at, "", alice...).want(t, 204)
	})
}

// identityRoles ask in each row of identityMatrix, in this order: nobody, a user with his
// password, with an API key that has limits, with a token, and with a wrong password.
var identityRoles = []string{"", "password", "limited key", "token", "wrong"}

// identityMatrix has a row for each path and method of the identity service, of a
// registry without providers. What is 401 here for somebody who is known asks for
// another credential: a session, a password.
var identityMatrix = map[string]map[string][5]int{
	"/zot/auth/token":          {"GET": {200, 200, 200, 401, 401}, "POST": {200, 200, 200, 401, 401}, "PUT": {405, 405, 405, 405, 405}},
	"/zot/auth/apikey":         {"GET": {401, 200, 403, 403, 401}, "POST": {401, 201, 403, 403, 401}, "DELETE": {401, 400, 403, 403, 401}, "PUT": {401, 405, 403, 403, 401}},
	"/zot/auth/login":          {"GET": {400, 400, 400, 400, 400}, "POST": {405, 405, 405, 405, 405}},
	"/zot/auth/logout":         {"POST": {200, 200, 200, 200, 200}, "GET": {405, 405, 405, 405, 405}},
	"/zot/auth/device":         {"GET": {404, 404, 404, 404, 404}, "POST": {404, 404, 404, 404, 404}},
	"/zot/auth/device/token":   {"POST": {400, 400, 400, 400, 400}, "GET": {405, 405, 405, 405, 405}},
	"/zot/auth/device/approve": {"POST": {401, 401, 401, 401, 401}, "GET": {405, 405, 405, 405, 405}},
	"/zot/auth/callback/":      {"GET": {404, 404, 404, 404, 404}, "POST": {405, 405, 405, 405, 405}},
}

// TestS001IdentityMatrix asks every path below /zot/auth/ for every role, and fails for a
// path that has no row.
func TestS001IdentityMatrix(t *testing.T) {
	for _, path := range identity.Paths() {
		if identityMatrix[path] == nil {
			t.Errorf("%s has no row", path)
		}
	}
	w := newWorld()
	w.closed = true
	w.withIdentity(t, identity.Options{}, "alice")
	g := inside{w.gateway(t)}
	var limited keyAnswer
	made := g.do(t, "POST", "/zot/auth/apikey", `{"label":"x","scopes":["a/**:pull"]}`, basic("alice", "alice")...).want(t, 201)
	if err := json.Unmarshal([]byte(made.body), &limited); err != nil {
		t.Fatal(err)
	}
	var token tokenAnswer
	if err := json.Unmarshal([]byte(g.do(t, "GET", "/zot/auth/token?scope=repository:a:pull", "", basic("alice", "alice")...).want(t, 200).body), &token); err != nil {
		t.Fatal(err)
	}
	for path, rows := range identityMatrix {
		for method, want := range rows {
			var got [5]int
			for i, role := range identityRoles {
				headers := map[string][]string{
					"password": basic("alice", "alice"), "limited key": basic("alice", limited.APIKey), "token": bearer(token.Token), "wrong": basic("alice", "wrong"),
				}[role]
				body := ""
				if path == "/zot/auth/apikey" && method == "POST" {
					body = `{"label":"made"}`
				}
				a := g.do(t, method, path, body, headers...)
				if got[i] = a.status; strings.Contains(a.body, limited.APIKey) {
					t.Errorf("%s %s by %q tells a secret: %s", method, path, role, a.body)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s by %q (-want +got):\n%s", method, path, identityRoles, diff)
			}
		}
	}
}

// TestS055BodiesAreLimited: every path that takes a document refuses one that is longer than
// it may be, whether or not the client says how long it is, and with the right to send it.
func TestS055BodiesAreLimited(t *testing.T) {
	x := newGated(t)
	w := newWorld()
	w.withIdentity(t, identity.Options{Providers: []identity.Provider{{Name: "p"}}}, "alice")
	at := w.serve(t)
	const form = "application/x-www-form-urlencoded"
	for _, test := range []struct {
		url, path, kind string
		limit           int
	}{
		{at, "/zot/auth/apikey", "application/json", 8 << 10},
		{at, "/zot/auth/token", form, 64 << 10},
		{at, "/zot/auth/device", form, 8 << 10},
		{at, "/zot/auth/device/token", form, 8 << 10},
		{at, "/zot/auth/device/approve", form, 8 << 10},
		{x.url, "/v2/_zot/ext/cosign", "application/octet-stream", registry.MaxTrustedPEM},
		{x.url, "/v2/_zot/ext/notation?truststoreType=ca&truststoreName=x", "application/octet-stream", registry.MaxTrustedPEM},
		{x.url, "/v2/a/manifests/t", registry.TypeManifest, registry.MaxManifest},
	} {
		method := http.MethodPost
		if strings.Contains(test.path, "manifests") {
			method = http.MethodPut
		}
		for how, wrap := range map[string]func(io.Reader) io.Reader{
			"with its length": func(r io.Reader) io.Reader { return r },
			"without":         func(r io.Reader) io.Reader { return struct{ io.Reader }{r} },
		} {
			body := wrap(strings.NewReader(`{"label":"` + strings.Repeat("x", test.limit)))
			a := do(t, method, test.url+test.path, body, append(basic("alice", "alice"), "Content-Type: "+test.kind)...)
			if a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s, too long, %s: %d %s", test.path, how, a.status, a.body)
			}
		}
	}
}

// TestS058SecretsOfOneKind shows each kind of secret in each place where one is asked for:
// it is good in its own and in no other.
func TestS058SecretsOfOneKind(t *testing.T) {
	w := newWorld()
	w.closed = true
	w.withIdentity(t, identity.Options{Providers: []identity.Provider{{Name: "p"}}}, "alice")
	at := w.serve(t)
	const isForm, ui = "Content-Type: application/x-www-form-urlencoded", "X-Zot-Api-Client: zot-ui"
	alice := basic("alice", "alice")
	post := func(path string, form url.Values) answer {
		return do(t, "POST", at+path, strings.NewReader(form.Encode()), isForm)
	}
	into := func(a answer, v any) {
		t.Helper()
		if err := json.Unmarshal([]byte(a.body), v); err != nil {
			t.Fatal(err)
		}
	}
	key := makeKey(t, at, alice, `{"label":"x"}`)
	var tokens tokenAnswer
	into(post("/zot/auth/token", url.Values{"grant_type": {"password"}, "username": {"alice"}, "password": {key.APIKey}, "access_type": {"offline"}, "service": {"berth.test"}, "scope": {"repository:a:pull,push"}}).want(t, 200), &tokens)
	var device struct {
		Code string `json:"device_code"`
		User string `json:"user_code"`
	}
	into(post("/zot/auth/device", nil).want(t, 200), &device)
	session := ""
	for _, c := range do(t, "GET", at+"/v2/", nil, append(alice, ui)...).want(t, 200).header.Values("Set-Cookie") {
		if v, ok := strings.CutPrefix(c, "session="); ok {
			session, _, _ = strings.Cut(v, ";")
		}
	}
	upload := do(t, "POST", at+"/v2/a/blobs/uploads/", nil, alice...).want(t, 202).header.Get("Location")
	path, state, _ := strings.Cut(upload, "?_state=")
	secrets := map[string]string{
		"password": "alice", "key": key.APIKey, "token": tokens.Token, "refresh token": tokens.RefreshToken,
		"device code": device.Code, "user code": device.User, "session": session, "upload state": state,
	}
	for name, s := range secrets {
		if s == "" {
			t.Fatalf("void: no %s", name)
		}
	}
	places := map[string]struct {
		show func(secret string) answer
		good []string
	}{
		"as a password":     {func(s string) answer { return do(t, "GET", at+"/v2/", nil, basic("alice", s)...) }, []string{"password", "key"}},
		"as a bearer token": {func(s string) answer { return do(t, "GET", at+"/v2/", nil, bearer(s)...) }, []string{"token"}},
		"to refresh": {func(s string) answer {
			return post("/zot/auth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {s}, "service": {"berth.test"}})
		}, []string{"refresh token"}},
		"as the session": {func(s string) answer { return do(t, "GET", at+"/zot/auth/apikey", nil, "Cookie: session="+s, ui) }, []string{"session"}},
		"as the state of an upload": {func(s string) answer {
			return do(t, "GET", at+path+"?_state="+url.QueryEscape(s), nil, alice...)
		}, []string{"upload state"}},
		"as a device code": {func(s string) answer {
			a := post("/zot/auth/device/token", url.Values{"device_code": {s}})
			if strings.Contains(a.body, "authorization_pending") { // it is one
				a.status = 200
			}
			return a
		}, []string{"device code"}},
	}
	for where, place := range places {
		for name, secret := range secrets {
			a := place.show(secret)
			if good := a.status < 300; good != slices.Contains(place.good, name) {
				t.Errorf("a %s %s: %d %s", name, where, a.status, a.body)
			}
		}
	}
}
