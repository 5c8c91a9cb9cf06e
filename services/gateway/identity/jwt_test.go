package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/scope"
)

func testKey(id string) registry.SigningKey {
	k := registry.SigningKey{ID: id, Seed: make([]byte, ed25519.SeedSize)}
	rand.Read(k.Seed)
	return k
}

func publicOf(k registry.SigningKey) ed25519.PublicKey {
	pub, _ := ed25519.NewKeyFromSeed(k.Seed).Public().(ed25519.PublicKey)
	return pub
}

var testNow = time.Unix(1_800_000_000, 0)

func goodClaims() tokenClaims {
	return tokenClaims{
		Issuer: tokenIssuer, Audience: "aud", Subject: "alice", IssuedAt: testNow.Unix(), NotBefore: testNow.Unix(), Expires: testNow.Add(tokenLife).Unix(), ID: "x",
		Access: []tokenAccess{{Type: "repository", Name: "a", Actions: []string{"pull"}, Rights: scope.Pull}},
	}
}

// forge signs any header and body.
func forge(k registry.SigningKey, header, body string) string {
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(header)) + "." + enc.EncodeToString([]byte(body))
	return text + "." + enc.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(k.Seed), []byte(text)))
}

func TestTokenIsReadAgain(t *testing.T) {
	k := testKey("k")
	text, err := sign(k, goodClaims())
	if err != nil {
		t.Fatal(err)
	}
	got, err := verify(text, "aud", testNow, func(kid string) ed25519.PublicKey {
		if kid == "k" {
			return publicOf(k)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(goodClaims(), got); diff != "" {
		t.Errorf("claims: -want +got\n%s", diff)
	}
	want := registry.Actor{ID: "alice", Scope: []registry.Grant{{Repositories: "a", Actions: scope.Pull}}}
	if diff := cmp.Diff(want, got.actor()); diff != "" {
		t.Errorf("actor: -want +got\n%s", diff)
	}
	nobody := goodClaims()
	nobody.Access = nil
	if a := nobody.actor(); a.Scope == nil || len(a.Scope) != 0 {
		t.Errorf("a token without access is good for %+v: want nothing, not everything", a.Scope)
	}
}

// S-030, S-033, S-036 and S-037: what somebody makes up is no token.
func TestForgedTokens(t *testing.T) {
	k, evil := testKey("k"), testKey("k")
	body := func(change func(*tokenClaims)) string {
		c := goodClaims()
		change(&c)
		b, _ := json.Marshal(c)
		return string(b)
	}
	good := body(func(*tokenClaims) {})
	const head = `{"alg":"EdDSA","kid":"k","typ":"JWT"}`
	enc := base64.RawURLEncoding
	jwk := fmt.Sprintf(`{"alg":"EdDSA","kid":"k","typ":"JWT","jwk":{"kty":"OKP","crv":"Ed25519","x":%q}}`, enc.EncodeToString(publicOf(evil)))
	valid := forge(k, head, good)
	for name, text := range map[string]string{
		"S030 a key in the header":                forge(evil, jwk, good),
		"S030 signed by another key":              forge(evil, head, good),
		"S030 a key in the header, right key":     forge(k, jwk, good),
		"S033 expired and badly signed":           forge(evil, head, body(func(c *tokenClaims) { c.Expires = 1 })),
		"S036 kid is a path":                      forge(k, `{"alg":"EdDSA","kid":"../../dev/null","typ":"JWT"}`, good),
		"S036 kid is SQL":                         forge(k, `{"alg":"EdDSA","kid":"' OR 1=1","typ":"JWT"}`, good),
		"S036 jku":                                forge(k, `{"alg":"EdDSA","kid":"k","typ":"JWT","jku":"http://169.254.169.254/"}`, good),
		"S036 x5u":                                forge(k, `{"alg":"EdDSA","kid":"k","typ":"JWT","x5u":"http://169.254.169.254/"}`, good),
		"crit":                                    forge(k, `{"alg":"EdDSA","kid":"k","typ":"JWT","crit":["x"],"x":1}`, good),
		"alg none":                                enc.EncodeToString([]byte(`{"alg":"none","kid":"k","typ":"JWT"}`)) + "." + enc.EncodeToString([]byte(good)) + ".",
		"alg HS256":                               forge(k, `{"alg":"HS256","kid":"k","typ":"JWT"}`, good),
		"no signature":                            valid[:strings.LastIndexByte(valid, '.')+1],
		"no kid":                                  forge(k, `{"alg":"EdDSA","typ":"JWT"}`, good),
		"S037 expired 61 s ago":                   forge(k, head, body(func(c *tokenClaims) { shift(c, -tokenLife-61*time.Second) })),
		"S037 valid in 61 s":                      forge(k, head, body(func(c *tokenClaims) { c.NotBefore = testNow.Unix() + 61 })),
		"S037 made in 2106":                       forge(k, head, body(func(c *tokenClaims) { shift(c, 80*365*24*time.Hour) })),
		"S037 without end":                        forge(k, head, body(func(c *tokenClaims) { c.Expires = 0 })),
		"S037 good for years":                     forge(k, head, body(func(c *tokenClaims) { c.Expires += 1e8 })),
		"another issuer":                          forge(k, head, body(func(c *tokenClaims) { c.Issuer = "https://elsewhere" })),
		"S058 for another audience":               forge(k, head, body(func(c *tokenClaims) { c.Audience = "other" })),
		"unknown claims":                          forge(k, head, `{"iss":"berth","aud":"aud","exp":1800000100,"iat":1800000000,"nbf":1800000000,"admin":true}`),
		"two objects":                             forge(k, head, good+good),
		"a line break in it":                      valid[:10] + "\n" + valid[10:],
		"a bit of the signature's last character": valid[:len(valid)-1] + string(otherLast(valid[len(valid)-1])),
		"S035 five parts":                         valid + "." + enc.EncodeToString([]byte("x")) + ".y",
		"empty":                                   "",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := verify(text, "aud", testNow, func(kid string) ed25519.PublicKey {
				if kid == "k" {
					return publicOf(k)
				}
				return nil
			})
			if err == nil || c.Subject != "" {
				t.Errorf("accepted as %+v", c)
			}
		})
	}
}

func shift(c *tokenClaims, d time.Duration) {
	s := int64(d / time.Second)
	c.IssuedAt, c.NotBefore, c.Expires = c.IssuedAt+s, c.NotBefore+s, c.Expires+s
}

// otherLast changes bits of a base64 character that carry nothing.
func otherLast(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)^1]
}

// S-034: dots cost nothing.
func TestS034ManyDots(t *testing.T) {
	dots := strings.Repeat(".", 1<<20)
	none := func(string) ed25519.PublicKey { return nil }
	if _, err := verify(dots, "aud", testNow, none); err == nil {
		t.Fatal("accepted")
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = verify(dots, "aud", testNow, none) }); n > 4 {
		t.Errorf("a MiB of dots makes %.0f allocations", n)
	}
}

func FuzzToken(f *testing.F) {
	k := registry.SigningKey{ID: "k", Seed: make([]byte, ed25519.SeedSize)}
	good, err := sign(k, goodClaims())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Add(forge(k, `{"alg":"none"}`, `{}`))
	f.Fuzz(func(t *testing.T, text string) {
		c, err := verify(text, "aud", testNow, func(string) ed25519.PublicKey { return publicOf(k) })
		if err == nil && text != good {
			t.Errorf("a token that nobody signed: %q, %+v", text, c)
		}
	})
}
