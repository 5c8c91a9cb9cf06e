package credentials_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/services/syncer/credentials"
)

// helped opens the helper for a test's server.
func helped(t *testing.T, h config.OAuth2CredentialHelper, now time.Time) credentials.Source {
	t.Helper()
	s, err := credentials.OAuth2(credentials.Options{
		Registry: &config.SyncRegistry{OAuth2CredentialHelper: &h}, Host: "a.example",
		Client: func(named ...string) (*http.Client, error) {
			if len(named) != 1 || named[0] != h.TokenURL {
				t.Errorf("a client for %q, want %q", named, h.TokenURL)
			}
			return http.DefaultClient, nil
		},
		Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOAuth2Grants(t *testing.T) {
	const exchange, bearer = "urn:ietf:params:oauth:grant-type:token-exchange", "urn:ietf:params:oauth:grant-type:jwt-bearer"
	var form, user, answer string
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		form = string(b)
		user = ""
		if name, secret, ok := r.BasicAuth(); ok {
			user = name + "/" + secret
		}
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer srv.Close()
	assertion := write(t, "assertion", "as.ser.tion\n", 0o600)
	secret := write(t, "secret", "s3\n", 0o600)
	now := time.Unix(1_000_000, 0)
	for _, test := range []struct {
		name       string
		h          config.OAuth2CredentialHelper
		form, user string
	}{
		{"client", config.OAuth2CredentialHelper{GrantType: "client_credentials", ClientID: "me", Scopes: []string{"a", "b"}}, "client_assertion=as.ser.tion&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_id=me&grant_type=client_credentials&scope=a+b", ""},
		{"assertion", config.OAuth2CredentialHelper{GrantType: bearer, ClientID: "me", ClientSecretFile: secret}, "assertion=as.ser.tion&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer", "me/s3"},
		{"exchange", config.OAuth2CredentialHelper{GrantType: exchange, Audience: "//x", RequestedTokenType: "urn:r"}, "audience=%2F%2Fx&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&requested_token_type=urn%3Ar&subject_token=as.ser.tion&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer = `{"access_token":"tok","expires_in":600}`
			test.h.TokenURL, test.h.AssertionFile, test.h.Username = srv.URL+"/token", assertion, "robot"
			c, err := helped(t, test.h, now)(t.Context())
			if err != nil || c.Username != "robot" || c.Password != "tok" || !c.Until.Equal(now.Add(10*time.Minute)) {
				t.Errorf("%+v, %v", c, err)
			}
			if form != test.form || user != test.user {
				t.Errorf("asked\n%s as %q, want\n%s as %q", form, user, test.form, test.user)
			}
		})
	}
	h := config.OAuth2CredentialHelper{GrantType: bearer, TokenURL: srv.URL, AssertionFile: assertion}
	for _, bad := range []struct {
		status int
		answer string
	}{{401, `{"access_token":"tok"}`}, {200, `<html>`}, {200, `{}`}} {
		status, answer = bad.status, bad.answer
		if c, err := helped(t, h, now)(t.Context()); err == nil {
			t.Errorf("%v gives %+v", bad, c)
		}
	}
	h.AssertionFile += "-absent"
	if _, err := helped(t, h, now)(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "assertionFile") {
		t.Errorf("no assertion: %v", err)
	}
}

// TestOAuth2Signs: an assertion that we sign is one that the owner of the public key
// takes.
func TestOAuth2Signs(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_000_000, 0)
	for name, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey} {
		t.Run(name, func(t *testing.T) {
			var got string
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				got = r.FormValue("assertion")
				io.WriteString(w, `{"access_token":"tok"}`)
			}))
			defer srv.Close()
			der, err := x509.MarshalPKCS8PrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			file := write(t, "key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600)
			h := config.OAuth2CredentialHelper{GrantType: "urn:ietf:params:oauth:grant-type:jwt-bearer", TokenURL: srv.URL, SigningFile: file, ClientID: "edge"}
			if _, err := helped(t, h, now)(t.Context()); err != nil {
				t.Fatal(err)
			}
			signed, err := jose.ParseSigned(got, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(name)})
			if err != nil {
				t.Fatalf("%q: %v", got, err)
			}
			b, err := signed.Verify(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			var claims map[string]any
			if err := json.Unmarshal(b, &claims); err != nil {
				t.Fatal(err)
			}
			if claims["iss"] != "edge" || claims["sub"] != "edge" || claims["aud"] != srv.URL || claims["exp"] != float64(1_000_300) {
				t.Errorf("claims %v", claims)
			}
		})
	}
}
