package gateway

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/berth-registry/berth/registry"
	"github.com/berth-registry/berth/registry/access"
	"github.com/berth-registry/berth/registry/config"
	"github.com/berth-registry/berth/registry/memory"
)

// TestP78MixedAccess: one registry has repositories for everybody and others for users,
// and each client finds its way in. Where there are tokens, /v2/ tells all where they
// are, and who has no password gets one, too. Where there are only passwords, docker is
// asked for its own at /v2/, because it sends none unless it is asked there, and clients
// that would take the 401 for the last word are let in. Who is let in at /v2/ is told
// how to authenticate all the same.
func TestP78MixedAccess(t *testing.T) {
	const (
		docker = "User-Agent: docker/28.2.2 go/go1.24 UpstreamClient(Docker-Client/28.2.2)"
		podman = "User-Agent: containers/5.33.1 (github.com/containers/image)"
		public = "/v2/public/app/manifests/t"
		secret = "/v2/secret/app/manifests/t"
		realm  = "https://hub.example/zot/auth/token"
		Basic  = `Basic realm="Authorization Required"`
		Bearer = `Bearer realm="` + realm + `",service="hub.example"`
	)
	alice := basic("alice", "sesame")[0]
	rules := &config.AccessControl{Repositories: map[string]registry.RepositoryRules{
		"public/**": {AnonymousPolicy: []string{"read"}, Policies: []registry.AccessPolicy{{Users: []string{"alice"}, Actions: []string{"read", "create"}}}},
		"secret/**": {Policies: []registry.AccessPolicy{{Users: []string{"alice"}, Actions: []string{"read", "create"}}}},
	}}
	hash, err := bcrypt.GenerateFromPassword([]byte("sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(users, []byte("alice:"+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serve := func(externalURL string) string {
		policy, err := access.Compile(rules, nil)
		if err != nil {
			t.Fatal(err)
		}
		deps := newWorld().deps
		deps.Catalog = memory.NewCatalog(memory.CatalogOptions{Access: policy})
		h := config.Defaults().HTTP
		h.Port, h.ExternalURL, h.AccessControl = "0", externalURL, rules
		h.Auth = &config.Auth{HTPasswd: &config.HTPasswd{Path: users}}
		at := "http://" + runWith(t, h, deps)
		pushImage(t, at, "public/app", "t", alice)
		pushImage(t, at, "secret/app", "t", alice)
		return at
	}
	type ask struct {
		who, agent, credentials, path string
		want                          int
		challenge                     string // without its scope
	}
	check := func(t *testing.T, at string, all []ask) {
		t.Helper()
		for _, a := range all {
			headers := []string{a.agent}
			if a.credentials != "" {
				headers = append(headers, a.credentials)
			}
			got := do(t, "GET", at+a.path, nil, headers...)
			if c := got.header.Get("Www-Authenticate"); got.status != a.want || c != a.challenge {
				t.Errorf("%s asks for %s: %d, challenge %q; want %d, %q", a.who, a.path, got.status, c, a.want, a.challenge)
			}
		}
	}

	t.Run("passwords", func(t *testing.T) {
		check(t, serve(""), []ask{
			{"docker without a password", docker, "", "/v2/", 401, Basic},
			{"docker without a password, all the same", docker, "", public, 200, ""},
			{"docker without a password", docker, "", secret, 401, Basic},
			{"docker with a password", docker, alice, "/v2/", 200, Basic},
			{"docker with a password", docker, alice, secret, 200, ""},
			{"docker with a wrong password", docker, basic("alice", "x")[0], "/v2/", 401, Basic},
			{"podman without a password", podman, "", "/v2/", 200, Basic},
			{"podman without a password", podman, "", public, 200, ""},
			{"podman without a password", podman, "", secret, 401, Basic},
			{"podman with a password", podman, alice, secret, 200, ""},
		})
	})
	t.Run("tokens", func(t *testing.T) {
		at := serve("https://hub.example")
		token := func(credentials []string, scope string) string {
			return bearer(askTokenOf(t, at, "hub.example", credentials, scope).Token)[0]
		}
		const openScope, secretScope = "repository:public/app:pull", "repository:secret/app:pull"
		nobody, both := token(nil, openScope), token(nil, secretScope)
		mine := token([]string{alice}, secretScope)
		for who, agent := range map[string]string{"docker": docker, "podman": podman} {
			check(t, at, []ask{
				{who + " with nothing", agent, "", "/v2/", 401, Bearer},
				{who + " with a token for nobody", agent, nobody, "/v2/", 200, Bearer},
				{who + " with a token for nobody", agent, nobody, public, 200, ""},
				{who + " with a token for nobody", agent, both, secret, 401, Bearer + `,scope="` + secretScope + `",error="insufficient_scope"`},
				{who + " with nothing", agent, "", secret, 401, Bearer + `,scope="` + secretScope + `"`},
				{who + " with a token", agent, mine, secret, 200, ""},
				{who + " with a password", agent, alice, secret, 200, ""},
			})
		}
	})
}
