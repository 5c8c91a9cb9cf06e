//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// withTokens has clients sent to the token service. Each gateway names itself, so
// that a token of one is shown to another.
func withTokens(t *testing.T, topology Topology) *System {
	t.Helper()
	users := filepath.Join(t.TempDir(), "htpasswd")
	var lines strings.Builder
	for _, user := range []string{"alice", "bob"} {
		out, err := exec.Command("htpasswd", "-nbB", "-C", "5", user, password(user)).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines.WriteString(strings.TrimSpace(string(out)) + "\n")
	}
	if err := os.WriteFile(users, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return startWatched(t, Options{Topology: topology, Edit: func(config map[string]any) {
		h, ok := config["http"].(map[string]any)
		if !ok {
			return
		}
		h["externalUrl"] = "http://registry.test"
		h["auth"] = map[string]any{
			"htpasswd": map[string]any{"path": users}, "apikey": true,
			"token": map[string]any{"realm": fmt.Sprintf("http://127.0.0.1:%v/zot/auth/token", h["port"])},
		}
	}}, "alice", password("alice"))
}

// apiKey makes an API key of alice.
func apiKey(t *testing.T, s *System, body string) (id, key string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/zot/auth/apikey", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", password("alice"))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got struct {
		UUID   string `json:"uuid"`
		APIKey string `json:"apiKey"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.APIKey == "" {
		t.Fatalf("API key: %d, %v", resp.StatusCode, err)
	}
	return got.UUID, got.APIKey
}

// TestTokens logs in, pushes, pulls and logs out with the clients people use, by each
// way of [ways]; those with a password and an API key also through two gateways.
// Afterwards each is refused. docs/clients.md shows who can do what.
func TestTokens(t *testing.T) {
	engine := startDockerd(t)
	c := makeContents(t, engine)
	chart := t.TempDir()
	helmRun := NewCommands(t)
	helmRun.Run(t, Client(t, "helm"), "create", filepath.Join(chart, "chart"))
	helmRun.Run(t, Client(t, "helm"), "package", filepath.Join(chart, "chart"), "-d", chart)
	clients := tokenClients(t, engine, c, chart)

	s := withTokens(t, TwoGateways)
	_, key := apiKey(t, s, `{"label":"e2e"}`)
	for _, w := range passwordWays(s, key) {
		for _, client := range clients {
			if client.name != "crane" { // see publicRealm
				t.Run("two-gateways/"+w.name+"/"+client.name, func(t *testing.T) { w.use(t, client) })
			}
		}
	}
	s = withTokens(t, Linked)
	testKeyWithLimits(t, s, c)

	var table loginTable
	_, key = apiKey(t, s, `{"label":"e2e"}`)
	ways := passwordWays(s, key)
	ways = append(ways, workloadWays(t)...)
	ways = append(ways, tokenServerWays(t)...)
	ways = append(ways, deviceWay(t, c))
	for _, w := range ways {
		for _, client := range clients {
			table.cell(t, w.name, client.name, w.none[client.name], func(t *testing.T) { w.use(t, client) })
		}
	}
	testCertificates(t, c, chart, &table)
	t.Logf("\n%s", table.String())
	if !t.Failed() {
		compareTable(t, "logins", "tokens", table.String())
	}
}

// testKeyWithLimits pushes and pulls with a key that is for one half of the names,
// and not to push there.
func testKeyWithLimits(t *testing.T, s *System, c contents) {
	crane := Client(t, "crane")
	alice := NewCommands(t)
	alice.Run(t, crane, "auth", "login", "--insecure", s.Addr, "-u", "alice", "-p", password("alice"))
	for _, repo := range []string{"open/a", "shut/a"} {
		alice.Run(t, crane, "push", "--insecure", c.image.dir, s.Addr+"/"+repo+":1")
	}
	id, key := apiKey(t, s, `{"label":"reader","scopes":["open/**:pull"]}`)
	reader := NewCommands(t)
	reader.Run(t, crane, "auth", "login", "--insecure", s.Addr, "-u", "alice", "-p", key)
	got := reader.Run(t, crane, "digest", "--insecure", s.Addr+"/open/a:1")
	if digest.Digest(got) == "" {
		t.Errorf("digest: %q", got)
	}
	for what, args := range map[string][]string{
		"a push":              {"push", "--insecure", c.image.dir, s.Addr + "/open/a:2"},
		"another name's pull": {"pull", "--insecure", "--format", "oci", s.Addr + "/shut/a:1", t.TempDir()},
		"a delete":            {"delete", "--insecure", s.Addr + "/open/a@" + got},
		"a mount by a copy":   {"copy", "--insecure", s.Addr + "/shut/a:1", s.Addr + "/open/b:1"},
	} {
		if stdout, stderr, err := reader.Try(crane, args...); err == nil {
			t.Errorf("%s with a key that is not for it:\n%s%s", what, stdout, stderr)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.URL()+"/zot/auth/apikey?id="+id, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("alice", password("alice"))
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("ending a key: %v, %v", resp, err)
	}
	resp.Body.Close()
}
