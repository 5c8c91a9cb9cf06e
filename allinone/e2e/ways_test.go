//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/berth-registry/berth/registry/certs/certstest"
)

// publicRealm is why crane is left out where a token server is not the registry itself.
const publicRealm = "it asks no token server at a private address but that of the registry, and the test has no other"

// passwordWays are those of [withTokens]: a token for a password, or for an API key.
func passwordWays(s *System, key string) []*loginWay {
	return []*loginWay{
		{name: "password", addr: s.Addr, user: "alice", password: password("alice"), wrong: "wrong", mine: "tokens/"},
		{name: "API key", addr: s.Addr, user: "alice", password: key, wrong: key + "x", mine: "tokens/"},
	}
}

// onlyFor lets one user push below mine/, and nobody anywhere else.
func onlyFor(user string) map[string]any {
	return map[string]any{"repositories": map[string]any{"mine/**": map[string]any{
		"policies": []map[string]any{{"users": []string{user}, "actions": []string{"read", "create", "update"}}},
	}}, "metrics": map[string]any{"users": []string{user}}}
}

// workloadWays show a token of an OpenID provider, such as CI systems have: as the
// password of any user, and as it is.
func workloadWays(t *testing.T) []*loginWay {
	issuer := startProvider(t)
	token, another := idToken(t, issuer, "ci"), idToken(t, issuer, "elsewhere")
	s := startWatched(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		h := config["http"].(map[string]any)
		h["auth"] = map[string]any{"bearer": map[string]any{
			"realm": "http://127.0.0.1:" + h["port"].(string) + "/zot/auth/token", "service": "registry",
			"oidc": []any{map[string]any{"issuer": issuer, "audiences": []string{"ci"}, "claimMapping": map[string]any{"username": "'workload-' + claims.sub"}}},
		}}
		h["accessControl"] = onlyFor("workload-1")
	}}, "ci", token)
	kept, err := json.Marshal(map[string]any{"auths": map[string]any{s.Addr: map[string]any{"registrytoken": token}}})
	if err != nil {
		t.Fatal(err)
	}
	return []*loginWay{
		{name: "workload token as password", addr: s.Addr, user: "ci", password: token, wrong: another, mine: "mine/", others: "others/"},
		{name: "workload token as it is", addr: s.Addr, kept: string(kept), mine: "mine/", others: "others/",
			none: map[string]string{"podman": "neither its file of credentials nor its options have a place for one"}},
	}
}

// tokenServerWays have clients ask Docker's own token server for tokens, who lets users
// push below their name: themselves, and through the registry.
func tokenServerWays(t *testing.T) []*loginWay {
	dir := t.TempDir()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]func() ([]byte, error){
		"EC PRIVATE KEY": func() ([]byte, error) { return x509.MarshalECPrivateKey(private) },
		"PUBLIC KEY":     func() ([]byte, error) { return x509.MarshalPKIXPublicKey(private.Public()) },
	} {
		der, err := block()
		if err != nil {
			t.Fatal(err)
		}
		certstest.Write(t, filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: file, Bytes: der}))
	}
	users := filepath.Join(dir, "htpasswd")
	line := NewCommands(t).Run(t, "/usr/bin/htpasswd", "-nbB", "-C", "5", "alice", password("alice"))
	certstest.Write(t, users, []byte(line+"\n"))
	addr := loopback(freePort(t))
	p := &Process{Name: "token-server", Path: Client(t, "token-server"), abrupt: true, Args: []string{
		"-addr", addr, "-issuer", "tokens", "-key", filepath.Join(dir, "EC PRIVATE KEY"), "-passwd", users, "-realm", "tokens",
	}}
	p.start(t)
	within(t, readyWithin, func() string {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Sprintf("%v\n%s", err, p.tail())
		}
		c.Close()
		return ""
	})
	realm := "http://" + addr + "/token/"
	start := func(relay bool) string {
		return startWatched(t, Options{Topology: Linked, Edit: func(config map[string]any) {
			h := config["http"].(map[string]any)
			bearer := map[string]any{"realm": realm, "service": "registry", "cert": filepath.Join(dir, "PUBLIC KEY")}
			if relay {
				bearer["realm"] = "http://127.0.0.1:" + h["port"].(string) + "/zot/auth/token"
				bearer["upstreamTokenEndpoint"] = map[string]any{"realm": realm, "service": "registry", "allowInsecureHttp": true}
			}
			h["auth"] = map[string]any{"bearer": bearer}
		}}, "", "").Addr
	}
	return []*loginWay{
		{name: "token server", addr: start(false), user: "alice", password: password("alice"), wrong: "wrong", mine: "alice/", others: "bob/",
			none: map[string]string{"crane": publicRealm}},
		{name: "token server through Berth", addr: start(true), user: "alice", password: password("alice"), wrong: "wrong", mine: "alice/", others: "bob/"},
	}
}
