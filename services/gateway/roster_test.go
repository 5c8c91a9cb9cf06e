package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/services/gateway/auth"
	"github.com/berth-registry/berth/services/gateway/identity"
)

// roster is a method that knows users, some of whom are removed later.
type roster struct {
	passwords
	gone   atomic.Pointer[string]
	broken atomic.Bool
}

func (r *roster) Name() string { return "roster" }

func (r *roster) Has(_ context.Context, user string) (bool, error) {
	if r.broken.Load() {
		return false, registry.ErrUnavailable
	}
	gone := r.gone.Load()
	return gone == nil || *gone != user, nil
}

func (r *roster) Authenticate(ctx context.Context, q *auth.Request) (registry.Actor, auth.Verdict, error) {
	a, v, err := r.passwords.Authenticate(ctx, q)
	if v == auth.Accepted {
		a.Claims = auth.Via("roster")
		if has, _ := r.Has(ctx, a.ID); !has {
			return registry.Actor{}, auth.Unknown, nil
		}
	}
	return a, v, err
}

// TestRemovedUserIsOut: whoever is taken out of the password file or the directory is
// out, with all that was made while he was in: a session, an API key, one that a program
// got by a device code, tokens, and refresh tokens. Others stay.
func TestRemovedUserIsOut(t *testing.T) {
	w := newWorld()
	w.withIdentity(t, identity.Options{Providers: []identity.Provider{{Name: "corp"}}}) // without any there are no device codes
	users := &roster{passwords: passwords{"alice", "bob"}}
	s := w.deps.Identity
	w.deps.Auth = auth.New(auth.Options{
		Closed: true, Admit: s.Admit, Challenge: auth.Challenge{Realm: "r", TokenRealm: "https://berth.test/zot/auth/token", Service: "berth.test"},
		Methods: auth.Methods{Basic: []auth.Method{s.Basic(), users}, Bearer: []auth.Method{s.Bearer()}, Session: []auth.Method{s.Session()}},
	})
	at := w.serve(t)
	credentials := func(user string) (all [][]string, refresh string) {
		key := makeKey(t, at, basic(user, user), `{"label":"k"}`)
		second := makeKey(t, at, basic(user, key.APIKey), `{"label":"made by a key"}`)
		a := do(t, "GET", at+"/v2/", nil, append(basic(user, user), "X-Zot-Api-Client: zot-ui")...).want(t, 200)
		cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
		if !strings.HasPrefix(cookie, "session=zse_") {
			t.Fatalf("no session: %v", a.header)
		}
		session := []string{"Cookie: " + cookie, "X-Zot-Api-Client: zot-ui"}
		third := makeKey(t, at, append(session, "Content-Type: application/json"), `{"label":"made in a session"}`)
		form := url.Values{"grant_type": {"password"}, "username": {user}, "password": {key.APIKey}, "access_type": {"offline"}, "service": {"berth.test"}}
		a = do(t, "POST", at+"/zot/auth/token", strings.NewReader(form.Encode()), "Content-Type: application/x-www-form-urlencoded").want(t, 200)
		refresh = jsonText(t, a.body, "refresh_token")
		scope := "registry:catalog:*"
		return [][]string{
			basic(user, key.APIKey), basic(user, second.APIKey), basic(user, third.APIKey), session, basic(user, keyByDevice(t, at, session)),
			bearer(askToken(t, at, basic(user, user), scope).Token), bearer(askToken(t, at, basic(user, key.APIKey), scope).Token),
		}, refresh
	}
	alice, refresh := credentials("alice")
	bob, _ := credentials("bob")
	for _, user := range []string{"alice", "bob"} { // what an operator has made for them, too
		secret := registry.NewSecret(registry.APIKeyPrefix)
		hash := registry.SecretHash(registry.APIKey, secret)
		err := w.deps.Catalog.AddCredential(t.Context(), registry.Actor{System: true}, registry.Credential{Kind: registry.APIKey, ID: "of " + user, Owner: user}, hash[:])
		if err != nil {
			t.Fatal(err)
		}
		if user == "alice" {
			alice = append(alice, basic(user, secret))
		} else {
			bob = append(bob, basic(user, secret))
		}
	}
	for _, h := range append(alice, bob...) {
		do(t, "GET", at+"/v2/", nil, h...).want(t, 200)
	}
	name := "alice"
	users.gone.Store(&name)
	for _, h := range append(alice, basic("alice", "alice")) {
		do(t, "GET", at+"/v2/", nil, h...).want(t, 401)
	}
	for _, h := range bob {
		do(t, "GET", at+"/v2/", nil, h...).want(t, 200)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "scope": {"registry:catalog:*"}, "service": {"berth.test"}}
	a := do(t, "POST", at+"/zot/auth/token", strings.NewReader(form.Encode()), "Content-Type: application/x-www-form-urlencoded")
	if a.status == 200 { // what it is good for is decided when it is used
		do(t, "GET", at+"/v2/", nil, bearer(jsonText(t, a.body, "token"))...).want(t, 401)
	}
	// A directory that can't be asked: nobody can tell, so nobody comes in by what it
	// vouched for, and no client throws its credentials away.
	users.broken.Store(true)
	for _, h := range bob {
		do(t, "GET", at+"/v2/", nil, h...).want(t, 503)
	}
}

// keyByDevice returns the API key of a program whose user agrees in a session.
func keyByDevice(t *testing.T, at string, session []string) string {
	t.Helper()
	const form = "Content-Type: application/x-www-form-urlencoded"
	begun := do(t, "POST", at+"/zot/auth/device", nil, form).want(t, 200).body
	code := jsonText(t, begun, "user_code")
	page := do(t, "GET", at+"/zot/auth/device?user_code="+code, nil, session...).want(t, 200).body
	_, csrf, _ := strings.Cut(page, `name="csrf" value="`)
	csrf, _, _ = strings.Cut(csrf, `"`)
	agreed := url.Values{"user_code": {code}, "csrf": {csrf}}
	do(t, "POST", at+"/zot/auth/device/approve", strings.NewReader(agreed.Encode()), append([]string{form}, session...)...).want(t, 200)
	asked := url.Values{"device_code": {jsonText(t, begun, "device_code")}}
	return jsonText(t, do(t, "POST", at+"/zot/auth/device/token", strings.NewReader(asked.Encode()), form).want(t, 200).body, "access_token")
}

// TestMethodIsGone: credentials of the users of a method end when it is taken out of the
// configuration.
func TestMethodIsGone(t *testing.T) {
	c := auth.New(auth.Options{Closed: true, Methods: auth.Methods{Basic: []auth.Method{vouched{}}}})
	r := httptest.NewRequest(http.MethodGet, "/v2/", nil)
	r.SetBasicAuth("alice", "alice")
	if _, err := c.Authenticate(r, auth.Wants{}); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("got %v", err)
	}
}

// vouched is a method of keys that a user of another method has made.
type vouched struct{}

func (vouched) Name() string { return "keys" }

func (vouched) Authenticate(context.Context, *auth.Request) (registry.Actor, auth.Verdict, error) {
	return registry.Actor{ID: "alice", Claims: auth.Via("ldap")}, auth.Accepted, nil
}

// jsonText returns a text of an object.
func jsonText(t *testing.T, object, key string) string {
	t.Helper()
	all := map[string]any{}
	if err := json.Unmarshal([]byte(object), &all); err != nil {
		t.Fatal(err)
	}
	text, _ := all[key].(string)
	return text
}
