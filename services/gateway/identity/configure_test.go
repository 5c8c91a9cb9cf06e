package identity

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry/config"
)

// S-060: the realm that clients send passwords to is the file's word alone.
func TestRealmAndAudience(t *testing.T) {
	users := &config.HTPasswd{Path: "x"}
	for _, test := range []struct {
		name            string
		h               config.HTTP
		realm, audience string
	}{
		{"nothing", config.HTTP{}, "", "berth"},
		{"certificates alone", config.HTTP{ExternalURL: "https://r.test", TLS: &config.TLS{CACert: "x"}}, "", "r.test"},
		{"passwords", config.HTTP{Auth: &config.Auth{HTPasswd: users}}, "", "berth"},
		{"externalUrl", config.HTTP{ExternalURL: "https://r.test/", Auth: &config.Auth{HTPasswd: users}}, "https://r.test/zot/auth/token", "r.test"},
		{"token.realm", config.HTTP{Auth: &config.Auth{HTPasswd: users, Token: &config.Token{Realm: "https://t.test/x"}}}, "https://t.test/x", "t.test"},
		{"both", config.HTTP{ExternalURL: "https://r.test", Auth: &config.Auth{HTPasswd: users, Token: &config.Token{Realm: "https://t.test/x"}}}, "https://t.test/x", "r.test"},
		{"another token server", config.HTTP{ExternalURL: "https://r.test", Auth: &config.Auth{Bearer: &config.Bearer{Cert: "x"}}}, "", "r.test"},
		{"issuers", config.HTTP{ExternalURL: "https://r.test", Auth: &config.Auth{Bearer: &config.Bearer{Service: "s", OIDC: []config.BearerOIDC{{}}}}}, "https://r.test/zot/auth/token", "s"},
	} {
		if realm, audience := Realm(test.h), Audience(test.h); realm != test.realm || audience != test.audience {
			t.Errorf("%s: realm %q, audience %q; want %q, %q", test.name, realm, audience, test.realm, test.audience)
		}
	}
}

func TestCookieKeyFile(t *testing.T) {
	for text, ok := range map[string]bool{
		`{"hashKey":"0123456789abcdef0123456789abcdef","encryptKey":"x"}`: true,
		`{"hashKey":"0123456789abcdef"}`:                                  true,
		`{"hashKey":"short"}`:                                             false,
		`{`:                                                               false,
	} {
		name := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readCookieKey(name); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
