package jwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/daemon"
	"github.com/berth-registry/berth/services/gateway/auth"
)

func env() auth.Env { return auth.Env{Process: daemon.Process{Log: slog.New(slog.DiscardHandler)}} }

// signer makes tokens.
type signer struct {
	alg, kid string
	key      crypto.Signer
}

func newSigner(t testing.TB, alg string) signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	default:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer{alg: alg, key: key}
}

// token returns a token; header replaces or adds to its header.
func (s signer) token(t testing.TB, claims map[string]any, header map[string]any) string {
	t.Helper()
	h := map[string]any{"alg": s.alg, "typ": "JWT"}
	if s.kid != "" {
		h["kid"] = s.kid
	}
	for k, v := range header {
		h[k] = v
	}
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(h) + "." + part(claims)
	return text + "." + base64.RawURLEncoding.EncodeToString(s.sign(t, []byte(text)))
}

func (s signer) sign(t testing.TB, text []byte) []byte {
	t.Helper()
	var sig []byte
	var err error
	switch key := s.key.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(key, text)
	case *ecdsa.PrivateKey:
		hash, size := ecHash(s.alg, key.Curve)
		r, v, failed := ecdsa.Sign(rand.Reader, key, sum(hash, text))
		if failed != nil {
			t.Fatal(failed)
		}
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		hash, pss := rsaHash(s.alg)
		if pss {
			sig, err = rsa.SignPSS(rand.Reader, key, hash, sum(hash, text), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		} else {
			sig, err = rsa.SignPKCS1v15(rand.Reader, key, hash, sum(hash, text))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func (s signer) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jwk returns the public key as a member of a key set.
func (s signer) jwk() map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	j := map[string]any{"kid": s.kid, "use": "sig", "alg": s.alg}
	switch key := s.key.Public().(type) {
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", enc(key)
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", enc(key.N.Bytes()), "AQAB"
	case *ecdsa.PublicKey:
		b, _ := key.Bytes()
		half := (len(b) - 1) / 2
		j["kty"], j["crv"], j["x"], j["y"] = "EC", key.Params().Name, enc(b[1:1+half]), enc(b[1+half:])
	}
	return j
}

// good returns claims of a token that is good for the service "hub" now.
func good(change map[string]any) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": "tokens", "sub": "alice", "aud": "hub", "iat": now, "nbf": now, "exp": now + 300,
		"access": []any{map[string]any{"type": "repository", "name": "a/b", "actions": []string{"pull", "push"}}}}
	for k, v := range change {
		if v == nil {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

func openDocker(t testing.TB, keys ...signer) *docker {
	t.Helper()
	var text []byte
	for _, s := range keys {
		text = append(text, s.pem(t)...)
	}
	file := filepath.Join(t.TempDir(), "keys.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := OpenBearer(file, "hub", env())
	if err != nil {
		t.Fatal(err)
	}
	return m.(*docker)
}

// TestAlgorithms: each algorithm with its key, and with no other.
func TestAlgorithms(t *testing.T) {
	algs := []string{"EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
	for _, alg := range algs {
		s := newSigner(t, alg)
		d := openDocker(t, s)
		if _, err := d.verify(t.Context(), s.token(t, good(nil), nil)); err != nil {
			t.Errorf("%s: %v", alg, err)
		}
		for _, other := range append(algs, "none", "HS256", "", "eddsa") {
			if other == alg {
				continue
			}
			if _, err := d.verify(t.Context(), s.token(t, good(nil), map[string]any{"alg": other})); err == nil {
				t.Errorf("%s: a token that says %q is taken", alg, other)
			}
		}
		set, err := json.Marshal(map[string]any{"keys": []any{s.jwk(), map[string]any{"kty": "oct", "k": "c2VjcmV0"}}})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := parseSet(set)
		if err != nil || len(keys) != 1 {
			t.Errorf("%s: the key set: %d keys, %v", alg, len(keys), err)
			continue
		}
		if p, err := split(s.token(t, good(nil), nil)); err != nil || !keys[0].verifies(p) {
			t.Errorf("%s: the key of the set does not verify: %v", alg, err)
		}
	}
}

// TestS030KeysInTheToken: a key that a token brings, or points to, counts for
// nothing (compare CVE-2025-24976), whatever it calls itself.
func TestS030KeysInTheToken(t *testing.T) {
	s, attacker := newSigner(t, "ES256"), newSigner(t, "ES256")
	s.kid, attacker.kid = "trusted", "trusted"
	d := openDocker(t, s)
	d.keys[0].ID = "trusted"
	for name, header := range map[string]map[string]any{
		"jwk":         {"jwk": attacker.jwk()},
		"x5c":         {"x5c": []string{base64.StdEncoding.EncodeToString(attacker.pem(t))}},
		"jku":         {"jku": "http://169.254.169.254/"},
		"x5u":         {"x5u": "http://169.254.169.254/"},
		"nothing":     {},
		"another kid": {"kid": "other"},
	} {
		if _, err := d.verify(t.Context(), attacker.token(t, good(nil), header)); err == nil {
			t.Errorf("%s: the attacker's token is taken", name)
		}
	}
	if _, err := d.verify(t.Context(), s.token(t, good(nil), map[string]any{"jku": "http://169.254.169.254/"})); err != nil {
		t.Errorf("our token with a jku: %v", err)
	}
	if _, err := d.verify(t.Context(), s.token(t, good(nil), map[string]any{"crit": []string{"exp"}})); err == nil {
		t.Error("a token with critical extensions is taken")
	}
}

// TestS033SignatureFirst: of a token that has expired and is badly signed no more is
// said than that it is badly signed.
func TestS033SignatureFirst(t *testing.T) {
	d := openDocker(t, newSigner(t, "EdDSA"))
	token := newSigner(t, "EdDSA").token(t, good(map[string]any{"exp": 1}), nil)
	if _, err := d.verify(t.Context(), token); err == nil || err.Error() != errSignature.Error() {
		t.Errorf("got %v", err)
	}
	a, verdict, err := d.Authenticate(t.Context(), &auth.Request{Bearer: token})
	if a.ID != "" || verdict != auth.Unknown || err != nil {
		t.Errorf("got %v, %v, %v", a, verdict, err)
	}
}

// TestS034Dots: a megabyte of dots is refused before anything is made of it.
func TestS034Dots(t *testing.T) {
	d := openDocker(t, newSigner(t, "EdDSA"))
	for _, token := range []string{strings.Repeat(".", 1<<20), strings.Repeat(".", 1<<14), strings.Repeat("a.", 1<<13)} {
		var err error
		if allocated := testing.AllocsPerRun(10, func() { _, err = d.verify(t.Context(), token) }); allocated > 2 || err == nil {
			t.Errorf("%.5q: %v allocations, %v", token, allocated, err)
		}
	}
}

// TestS035Encrypted: a token of five parts is not looked into.
func TestS035Encrypted(t *testing.T) {
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2000000000,"zip":"DEF"}`))
	if _, err := openDocker(t, newSigner(t, "EdDSA")).verify(t.Context(), header+".a.b.c.d"); err == nil || err.Error() != errMalformed.Error() {
		t.Errorf("got %v", err)
	}
}

// TestS036NamesOfKeys: what a token calls its key is compared, and never used.
func TestS036NamesOfKeys(t *testing.T) {
	s := newSigner(t, "EdDSA")
	d := openDocker(t, s)
	d.keys[0].ID = "1"
	for _, kid := range []string{"../../dev/null", "' OR 1=1", strings.Repeat("k", 20000), strings.Repeat("k", 1<<20), "\x00"} {
		if _, err := d.verify(t.Context(), s.token(t, good(nil), map[string]any{"kid": kid})); err == nil {
			t.Errorf("the kid %.20q is taken", kid)
		}
	}
	for _, kid := range []any{1, nil, []string{"1"}, map[string]any{}} {
		if _, err := d.verify(t.Context(), s.token(t, good(nil), map[string]any{"kid": kid})); err == nil && kid != nil {
			t.Errorf("the kid %v is taken", kid)
		}
	}
}

// TestS037Times: a token is good from nbf and iat to exp, clocks may be wrong by a
// minute, and one that never expires is not good.
func TestS037Times(t *testing.T) {
	s := newSigner(t, "EdDSA")
	d := openDocker(t, s)
	now := time.Now()
	d.now = func() time.Time { return now }
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for name, test := range map[string]struct {
		claims map[string]any
		want   bool
	}{
		"good":                   {nil, true},
		"expired within leeway":  {map[string]any{"exp": at(-58 * time.Second)}, true},
		"expired":                {map[string]any{"exp": at(-61 * time.Second)}, false},
		"expires in a fraction":  {map[string]any{"exp": float64(at(time.Minute)) + 0.5}, true},
		"no exp":                 {map[string]any{"exp": nil}, false},
		"exp of text":            {map[string]any{"exp": "never"}, false},
		"exp beyond all":         {map[string]any{"exp": 1e300}, false},
		"nbf within leeway":      {map[string]any{"nbf": at(59 * time.Second)}, true},
		"nbf":                    {map[string]any{"nbf": at(62 * time.Second)}, false},
		"nbf of text":            {map[string]any{"nbf": "now"}, false},
		"iat of 2106":            {map[string]any{"iat": int64(1) << 32}, false},
		"no nbf, no iat":         {map[string]any{"nbf": nil, "iat": nil}, true},
		"another audience":       {map[string]any{"aud": "other"}, false},
		"no audience":            {map[string]any{"aud": nil}, false},
		"one of many audiences":  {map[string]any{"aud": []string{"other", "hub"}}, true},
		"audience of an object":  {map[string]any{"aud": map[string]any{"hub": true}}, false},
		"access of another type": {map[string]any{"access": "all"}, false},
	} {
		if _, err := d.verify(t.Context(), s.token(t, good(test.claims), nil)); (err == nil) != test.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// One that was remembered is refused when its time is up.
	token := s.token(t, good(nil), nil)
	for _, step := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {5 * time.Minute, true}, {time.Minute + time.Second, false}} {
		now = now.Add(step.after)
		if _, err := d.verify(t.Context(), token); (err == nil) != step.want {
			t.Errorf("%v later: %v", step.after, err)
		}
	}
}

// TestTokensOfAServer: what such a token allows, and what of it the catalog is told.
func TestTokensOfAServer(t *testing.T) {
	s := newSigner(t, "ES256")
	d := openDocker(t, newSigner(t, "RS256"), s) // one key of two
	access := func(list ...any) map[string]any { return map[string]any{"access": list} }
	entry := func(kind, name string, actions ...string) any {
		return map[string]any{"type": kind, "name": name, "actions": actions}
	}
	pull, push, del := auth.Wants{Repo: "a/b", Actions: []string{"pull"}}, auth.Wants{Repo: "a/b", Actions: []string{"pull", "push"}}, auth.Wants{Repo: "a/b", Actions: []string{"delete"}}
	list := auth.Wants{Actions: []string{"*"}}
	for name, test := range map[string]struct {
		claims map[string]any
		wants  auth.Wants
		want   bool
	}{
		"base":                 {access(), auth.Wants{Base: true}, true},
		"pull":                 {access(entry("repository", "a/b", "pull")), pull, true},
		"push with pull only":  {access(entry("repository", "a/b", "pull")), push, false},
		"push without pull":    {access(entry("repository", "a/b", "push")), push, false},
		"in two entries":       {access(entry("repository", "a/b", "push"), entry("repository", "a/b", "pull")), push, true},
		"everything":           {access(entry("repository", "a/b", "*")), del, true},
		"delete with push":     {access(entry("repository", "a/b", "pull", "push")), del, false},
		"delete":               {access(entry("repository", "a/b", "delete")), del, true},
		"another repository":   {access(entry("repository", "a/bc", "pull")), pull, false},
		"a pattern is no name": {access(entry("repository", "a/*", "pull")), pull, false},
		"another type":         {access(entry("repository(plugin)", "a/b", "pull")), pull, false},
		"catalog":              {access(entry("registry", "catalog", "*")), list, true},
		"catalog without":      {access(entry("repository", "catalog", "*")), list, false},
		"nothing":              {access(), pull, false},
	} {
		a, verdict, err := d.Authenticate(t.Context(), &auth.Request{Bearer: s.token(t, good(test.claims), nil), Wants: test.wants})
		if (verdict == auth.Accepted) != test.want || test.want != (err == nil) {
			t.Errorf("%s: got %v, %v, %v", name, a, verdict, err)
		}
	}
	a, _, err := d.Authenticate(t.Context(), &auth.Request{Bearer: s.token(t, good(access(
		entry("repository", "a/b", "pull", "push"), entry("repository", "**", "*"), entry("repository", "c", "fly"), entry("registry", "catalog", "*"), entry("repository", "d", "*"),
	)), nil)})
	want := registry.Actor{ID: "alice", System: true, Scope: []registry.Grant{
		{Repositories: "a/b", Actions: registry.ActRead | registry.ActCreate | registry.ActUpdate},
		{Repositories: "**", Actions: registry.ActList},
		{Repositories: "d", Actions: registry.ActRead | registry.ActCreate | registry.ActUpdate | registry.ActDelete},
	}}
	if diff := cmp.Diff(want, a); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if a, _, _ := d.Authenticate(t.Context(), &auth.Request{Bearer: s.token(t, good(map[string]any{"sub": nil, "access": nil}), nil)}); a.ID == "" || a.Scope == nil {
		t.Errorf("without a subject: %+v", a)
	}
}

func TestParsePEMRefuses(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Skip("weak keys can't be made")
	}
	der, _ := x509.MarshalPKIXPublicKey(&weak.PublicKey)
	for name, text := range map[string][]byte{
		"empty":   nil,
		"text":    []byte("x"),
		"private": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")}),
		"garbage": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("x")}),
		"weak":    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
	} {
		if keys, err := ParsePEM(text); err == nil {
			t.Errorf("%s: got %v", name, keys)
		}
	}
}

func FuzzToken(f *testing.F) {
	s := newSigner(f, "EdDSA")
	d := openDocker(f, s)
	real := s.token(f, good(map[string]any{"exp": 1 << 35}), nil)
	for _, text := range []string{real, "", "..", "a.b.c", strings.Repeat(".", 100), real + "x", "." + real} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := d.verify(t.Context(), text); err == nil && text != real {
			t.Errorf("%q is taken", text)
		}
	})
}

func FuzzKeySet(f *testing.F) {
	for _, alg := range []string{"EdDSA", "ES256", "RS256"} {
		b, _ := json.Marshal(map[string]any{"keys": []any{newSigner(f, alg).jwk()}})
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseSet(text)
		if (err == nil) != (len(keys) > 0) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		for i := range keys {
			keys[i].verifies(&parsed{alg: "ES256", signed: text, signature: make([]byte, 64)})
		}
	})
}
