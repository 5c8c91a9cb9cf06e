package jwt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/outbound"
	"github.com/berth-registry/berth/services/gateway/auth"
)

// provider is an issuer whose answers a test chooses.
type provider struct {
	*httptest.Server
	keys     []signer
	issuer   string // in the document; "" is its URL
	jwks     string // the same
	redirect string
	fetched  atomic.Int64 // key sets
}

func newProvider(t *testing.T, keys ...signer) *provider {
	p := &provider{keys: keys}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	or := func(s, other string) string {
		if s != "" {
			return s
		}
		return other
	}
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if p.redirect != "" {
			http.Redirect(w, r, p.redirect, http.StatusFound)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"issuer": or(p.issuer, p.URL), "jwks_uri": or(p.jwks, p.URL+"/keys")})
	case "/keys":
		p.fetched.Add(1)
		var set []any
		for _, k := range p.keys {
			set = append(set, k.jwk())
		}
		json.NewEncoder(w).Encode(map[string]any{"keys": set})
	default:
		http.NotFound(w, r)
	}
}

func named(t *testing.T, kid string) signer {
	s := newSigner(t, "ES256")
	s.kid = kid
	return s
}

func (p *provider) claims(change map[string]any) map[string]any {
	c := good(change)
	if _, set := change["iss"]; !set {
		c["iss"] = p.URL
	}
	return c
}

func openWorkload(t *testing.T, list ...config.BearerOIDC) *workload {
	t.Helper()
	m, err := OpenOIDC(list, outbound.Rules{}, nil, env())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.(*workload).Close() })
	return m.(*workload)
}

// TestWorkloadIdentity: tokens of several issuers, as bearer tokens and as passwords.
func TestWorkloadIdentity(t *testing.T) {
	one, two := newProvider(t, named(t, "1")), newProvider(t, named(t, "1"))
	w := openWorkload(t,
		config.BearerOIDC{Issuer: one.URL, Audiences: []string{"other"}},
		config.BearerOIDC{Issuer: one.URL, Audiences: []string{"hub"}},
		config.BearerOIDC{Issuer: two.URL, Audiences: []string{"hub"}})
	for name, test := range map[string]struct{ token, want string }{
		"the first":               {one.keys[0].token(t, one.claims(nil), nil), one.URL + "/alice"},
		"the second":              {two.keys[0].token(t, two.claims(nil), nil), two.URL + "/alice"},
		"the other's key":         {two.keys[0].token(t, one.claims(nil), nil), ""},
		"an issuer nobody trusts": {one.keys[0].token(t, one.claims(map[string]any{"iss": "https://evil.example"}), nil), ""},
		"no issuer":               {one.keys[0].token(t, one.claims(map[string]any{"iss": nil}), nil), ""},
		"no subject":              {one.keys[0].token(t, one.claims(map[string]any{"sub": nil}), nil), ""},
		"another audience":        {one.keys[0].token(t, one.claims(map[string]any{"aud": "x"}), nil), ""},
		"expired":                 {one.keys[0].token(t, one.claims(map[string]any{"exp": 1}), nil), ""},
		"no token":                {"x", ""},
	} {
		for _, q := range []*auth.Request{{Bearer: test.token}, {Basic: &auth.Basic{User: "oauth", Password: test.token}}} {
			a, verdict, err := w.Authenticate(t.Context(), q)
			if a.ID != test.want || err != nil || (verdict == auth.Accepted) != (test.want != "") {
				t.Errorf("%s: got %q, %v, %v", name, a.ID, verdict, err)
			}
		}
	}
}

// TestS040TokensAreNoGuesses: wrong passwords of others for the user name that clients send
// a token with, which is often the same for all, keep no token out.
func TestS040TokensAreNoGuesses(t *testing.T) {
	p := newProvider(t, named(t, "1"))
	w := openWorkload(t, config.BearerOIDC{Issuer: p.URL, Audiences: []string{"hub"}})
	c := auth.New(auth.Options{Closed: true, Methods: auth.Methods{Basic: []auth.Method{w}}})
	gone, leave := context.WithCancel(t.Context())
	leave() // whoever has left does not wait for a 429
	status := func(source, password string) int {
		r := httptest.NewRequestWithContext(gone, http.MethodGet, "/v2/", nil)
		r.RemoteAddr = source
		r.SetBasicAuth("oauth", password)
		if _, err := c.Authenticate(r, auth.Wants{}); err != nil {
			return registry.AsError(err).Code.HTTP()
		}
		return 200
	}
	first := p.keys[0].token(t, p.claims(nil), nil)
	if got := status("10.0.0.1:1", first); got != 200 {
		t.Fatal(got)
	}
	for i := range 100 {
		status(fmt.Sprintf("10.1.0.%d:1", i), "guess")
	}
	for name, test := range map[string]struct {
		password string
		want     int
	}{
		"seen before":    {first, 200},
		"another":        {p.keys[0].token(t, p.claims(map[string]any{"jti": "another"}), nil), 200},
		"expired":        {p.keys[0].token(t, p.claims(map[string]any{"exp": 1}), nil), 429},
		"one more guess": {"guess", 429},
	} {
		if got := status("10.0.0.1:1", test.password); got != test.want {
			t.Errorf("%s: %d, want %d", name, got, test.want)
		}
	}
}

// TestS051OnePrincipalPerIssuer: the same subject of two issuers is two users, and an
// address that was not verified is no claim.
func TestS051OnePrincipalPerIssuer(t *testing.T) {
	p := newProvider(t, named(t, "1"))
	w := openWorkload(t, config.BearerOIDC{Issuer: p.URL, Audiences: []string{"hub"}})
	for name, test := range map[string]struct {
		verified any
		want     string
	}{
		"verified": {true, "a@b.example"}, "not verified": {false, ""}, "of text": {"true", ""}, "not said": {nil, "a@b.example"},
	} {
		token := p.keys[0].token(t, p.claims(map[string]any{"email": "a@b.example", "email_verified": test.verified}), nil)
		a, _, err := w.Authenticate(t.Context(), &auth.Request{Bearer: token})
		if err != nil || a.Claims["email"] != test.want || a.ID != p.URL+"/alice" {
			t.Errorf("%s: %q, %q, %v", name, a.ID, a.Claims["email"], err)
		}
	}
}

// TestS052DiscoveryThatLeadsElsewhere: an issuer that redirects, that says it is
// another, or whose keys are on another host of a private network, has no keys.
func TestS052DiscoveryThatLeadsElsewhere(t *testing.T) {
	other := newProvider(t, named(t, "1"))
	for name, change := range map[string]func(*provider){
		"redirect":             func(p *provider) { p.redirect = other.URL + "/.well-known/openid-configuration" },
		"redirect to itself":   func(p *provider) { p.redirect = p.URL + "/keys" },
		"another issuer":       func(p *provider) { p.issuer = other.URL },
		"keys of another host": func(p *provider) { p.jwks = other.URL + "/keys" },
		"keys behind TLS":      func(p *provider) { p.jwks = strings.Replace(other.URL, "http:", "https:", 1) + "/keys" },
		"keys of a cloud":      func(p *provider) { p.jwks = "http://169.254.169.254/latest/meta-data/" },
		"no keys":              func(p *provider) { p.jwks = "nowhere" },
	} {
		p := newProvider(t, named(t, "1"))
		change(p)
		w := openWorkload(t, config.BearerOIDC{Issuer: p.URL, Audiences: []string{"hub"}})
		for _, key := range []signer{p.keys[0], other.keys[0]} {
			a, verdict, err := w.Authenticate(t.Context(), &auth.Request{Bearer: key.token(t, p.claims(nil), nil)})
			if verdict == auth.Accepted || !errors.Is(err, registry.ErrUnavailable) {
				t.Errorf("%s: got %v, %v, %v", name, a, verdict, err)
			}
		}
	}
	if n := other.fetched.Load(); n != 0 {
		t.Errorf("the other host was asked for keys %d times", n)
	}
}

// TestKeysAreFetchedSeldom: once for many tokens, again when a key is new, and not
// for every made-up name of a key; old keys go on when the issuer is gone.
func TestKeysAreFetchedSeldom(t *testing.T) {
	p := newProvider(t, named(t, "1"))
	w := openWorkload(t, config.BearerOIDC{Issuer: p.URL, Audiences: []string{"hub"}})
	now := time.Now()
	w.trusted[0].issuer.now = func() time.Time { return now }
	try := func(s signer, header map[string]any) bool {
		t.Helper()
		_, verdict, _ := w.Authenticate(t.Context(), &auth.Request{Bearer: s.token(t, p.claims(nil), header)})
		return verdict == auth.Accepted
	}
	first := p.keys[0]
	for range 10 {
		if !try(first, nil) {
			t.Fatal("refused")
		}
	}
	next := named(t, "2")
	p.keys = []signer{next}
	for i := range 10 {
		if try(next, map[string]any{"kid": "made up"}) {
			t.Errorf("%d: a key that is not there", i)
		}
	}
	if n := p.fetched.Load(); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
	now = now.Add(keysAgain)
	if !try(next, nil) || p.fetched.Load() != 2 {
		t.Errorf("a new key is not taken after %v; fetched %d times", keysAgain, p.fetched.Load())
	}
	if try(first, nil) {
		t.Error("a key that is gone is taken")
	}
	p.Close()
	now = now.Add(2 * keysFor)
	if !try(next, nil) {
		t.Error("with the issuer gone, its keys are, too")
	}
}
