//go:build e2e

package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// ann is the only user of a provider.
type ann struct{}

func (ann) GetUserByID(id string) *storage.User {
	return &storage.User{ID: "1", Username: "ann", Password: "pw", Email: "ann@corp.test", EmailVerified: true}
}

func (a ann) GetUserByUsername(string) *storage.User { return a.GetUserByID("1") }
func (ann) ExampleClientID() string                  { return "service" }

// testDeviceLogin logs in with "berth login" while ann agrees in her browser, pushes with
// what docker's config file has then, and logs out.
func testDeviceLogin(t *testing.T, c contents) {
	provider := httptest.NewUnstartedServer(nil)
	issuer := "http://" + provider.Listener.Addr().String()
	old := slog.Default()
	provider.Config.Handler = exampleop.SetupServer(issuer, storage.NewStorage(ann{}), slog.New(slog.DiscardHandler), false, op.WithAllowInsecure())
	slog.SetDefault(old)
	provider.Start()
	t.Cleanup(provider.Close)
	s := Start(t, Options{Topology: Linked, Edit: func(config map[string]any) {
		h := config["http"].(map[string]any)
		at := "http://127.0.0.1:" + h["port"].(string)
		storage.RegisterClients(storage.WebClient("berth", "secret", at+"/zot/auth/callback/corp"))
		h["externalUrl"] = at
		h["auth"] = map[string]any{"openid": map[string]any{"providers": map[string]any{"corp": map[string]any{
			"issuer": issuer, "clientid": "berth", "clientsecret": "secret", "scopes": []string{"openid", "email", "profile"},
		}}}}
	}})
	run := NewCommands(t)
	crane := Client(t, "crane")
	push := func() (string, string, error) {
		return run.Try(crane, "push", "--insecure", c.image.dir, s.Addr+"/login/app:1")
	}
	if _, _, err := push(); err == nil {
		t.Fatal("a push without a login")
	}

	login := exec.CommandContext(t.Context(), Program(t, "berth"), "login", s.URL())
	login.Dir, login.Env = run.dir, run.env
	told, err := login.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := login.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(told)
	var page string
	for page == "" && lines.Scan() {
		page = strings.TrimPrefix(regexp.MustCompile(`Open http\S+`).FindString(lines.Text()), "Open ")
	}
	if page == "" {
		t.Fatalf("berth login names no page: %v", login.Wait())
	}
	agree(t, issuer, s.URL(), page)
	rest, _ := io.ReadAll(told)
	if err := login.Wait(); err != nil {
		t.Fatalf("berth login: %v\n%s", err, rest)
	}

	text, err := os.ReadFile(filepath.Join(run.dir, ".docker", "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var kept struct {
		Auths map[string]struct{ Auth string }
	}
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	pair, err := base64.StdEncoding.DecodeString(kept.Auths[s.Addr].Auth)
	if err != nil || !strings.HasPrefix(string(pair), "ann@corp.test:zak_") {
		t.Fatalf("docker's config file has no key of ann for %s: %v", s.Addr, err)
	}
	if stdout, stderr, err := push(); err != nil {
		t.Fatalf("a push after the login: %v\n%s%s", err, stdout, stderr)
	}
	run.Run(t, crane, "auth", "logout", s.Addr)
	if _, _, err := push(); err == nil {
		t.Error("a push after the logout")
	}
}

// agree opens the page of a login by device code, logs ann in at the provider, and sends
// the form that she sees then.
func agree(t *testing.T, issuer, registry, page string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	read := func(resp *http.Response, err error) (*http.Response, string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	at, body := read(browser.Get(page))
	id := at.Request.URL.Query().Get("authRequestID")
	if id == "" {
		t.Fatalf("no page of the provider but %s: %s %s", at.Request.URL, at.Status, body)
	}
	_, body = read(browser.PostForm(issuer+"/login/username", url.Values{"username": {"ann"}, "password": {"pw"}, "id": {id}}))
	csrf := regexp.MustCompile(`name="csrf" value="([0-9a-f]+)"`).FindStringSubmatch(body)
	code := regexp.MustCompile(`name="user_code" value="([^"]+)"`).FindStringSubmatch(body)
	if csrf == nil || code == nil {
		t.Fatalf("no form to agree with: %s", body)
	}
	done, body := read(browser.PostForm(registry+"/zot/auth/device/approve", url.Values{"user_code": {code[1]}, "csrf": {csrf[1]}}))
	if done.StatusCode != http.StatusOK {
		t.Fatalf("agreeing: %s %s", done.Status, body)
	}
}
